package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/deadletter"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/work"
	"github.com/omflow-booster/omflow-booster/worker/outbox"
)

// prove publishes rows that are believed queued, in turn, for a bounded part of the time: WORK refuses each that it has. Where
// many were missing it goes on at once, for a loss takes what was stored together.
func (r *reconciler) prove(ctx context.Context, ids []work.ID) error {
	began := time.Now()
	start := sort.Search(len(ids), func(i int) bool { return before(r.proven, ids[i]) })
	var batch []work.ID
	for i := range ids { // once round at most
		id := ids[(start+i)%len(ids)]
		if _, ok := r.sure[id]; ok {
			batch = append(batch, id)
		}
		if len(batch) < reconcileBatch && i < len(ids)-1 {
			continue
		}
		r.proven = id
		missing, err := r.requeue(ctx, batch, r.store.Load)
		if err != nil {
			return err
		}
		// Some are always missing on a busy system: they were done since their rows were listed.
		if missing < max(1, len(batch)/10) && time.Since(began) >= r.every/reconcileShare {
			return nil
		}
		batch = batch[:0]
	}
	return nil
}

// before is the order of Store.IDs: one table after the other, and the keys of each.
func before(a, b work.ID) bool {
	if a.Source != b.Source {
		return a.Source == work.Queue
	}
	return a.Row < b.Row
}

// requeue makes sure of rows, in the order of their keys: those that are still there and not dead are published. It returns how
// many had no message.
func (r *reconciler) requeue(ctx context.Context, ids []work.ID,
	load func(context.Context, []work.ID) ([]outbox.Stored, error),
) (added int, err error) {
	left := len(ids)
	defer func() {
		if added > 0 {
			r.log.Info().Int("queued", added).Int("left", left).Msg("rows without a message queued")
		}
	}()
	for batch := range slices.Chunk(ids, reconcileBatch) {
		stored, err := load(ctx, batch)
		if err != nil {
			return added, err
		}
		steps, err := r.prepare(ctx, stored)
		if err != nil {
			return added, err
		}
		r.publish(ctx, steps)
		var failed error
		for _, s := range steps {
			switch {
			case s.queued:
				r.sure[s.id] = struct{}{}
				if s.lastErr == nil {
					added++
					r.queue.seq = max(r.queue.seq, s.seq) // a queue that ends before it has lost this one
				}
			case errors.Is(s.lastErr, nats.ErrMaxPayload):
				r.deadLetter(ctx, outbox.Stored{ID: s.id, Item: s.item, Err: s.lastErr})
			default: // no Booster, or no room: the next round goes on
				delete(r.sure, s.id)
				failed = fmt.Errorf("queue row %s: %w", s.id, s.lastErr)
			}
		}
		if failed != nil {
			return added, failed
		}
		left -= len(batch)
	}
	return added, nil
}

// prepare builds the messages of rows that are not dead. Rows that can never be carried are made visible in DEAD.
func (r *reconciler) prepare(ctx context.Context, stored []outbox.Stored) ([]*outgoing, error) {
	steps := make([]*outgoing, 0, len(stored))
	for _, s := range stored {
		var body []byte
		if s.Err == nil {
			body, s.Err = s.Item.Lean().Encode()
		}
		dead, err := r.isDead(ctx, s)
		if err != nil {
			return nil, err
		}
		if dead {
			r.sure[s.ID] = struct{}{}
			continue
		}
		if s.Err != nil {
			r.deadLetter(ctx, s)
			continue
		}
		msg := stepMessage(s.ID, s.Item, body, r.database).Work()
		// Not the identity that the dedupe window knows: that one may have been consumed a moment ago without an effect.
		// Against doubles the stream itself guards, with one message for each subject.
		msg.Header.Set(bus.HeaderMsgID, fmt.Sprintf("%s-again-%d", s.ID.MsgID(), time.Now().UnixNano()))
		// The step may have been done, or given up on, and acknowledged since its row was loaded.
		msg.Header.Set(bus.HeaderCheck, bus.CheckReconciled)
		steps = append(steps, &outgoing{id: s.ID, item: s.Item, msg: msg})
	}
	return steps, nil
}

// isDead tells whether DEAD holds this very step. Only rows whose number DEAD names are looked up.
func (r *reconciler) isDead(ctx context.Context, s outbox.Stored) (bool, error) {
	if !r.dead.Names(s.ID) {
		return false, nil
	}
	flow, _ := s.Item.Flow()
	m, err := r.dead.Message(ctx, bus.DeadSubject(s.Item.Name, flow, s.ID.String()))
	if err != nil {
		return false, fmt.Errorf("look for %s in %s: %w", s.ID, bus.StreamDead, err)
	}
	if m == nil {
		return false, nil
	}
	return about(m.Header, m.Data, r.database, outbox.Check{Item: s.Item, Err: s.Err}), nil
}

// deadLetter makes a row that can never be carried visible in DEAD, without a body.
func (r *reconciler) deadLetter(ctx context.Context, s outbox.Stored) {
	flow, key := s.Item.Flow()
	step := bus.StepMessage{ID: s.ID, Kind: s.Item.Name, Flow: flow, Ticket: key, Database: r.database, Digest: s.Item.Digest()}
	call, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	err := deadletter.WriteUnqueued(call, r.js, step, bus.Death{Worker: r.worker, Reason: "the row cannot be carried", Err: s.Err})
	if err == nil {
		r.sure[s.ID] = struct{}{}
	}
	r.log.Error().Err(s.Err).AnErr("dead", err).Stringer(logging.Work, s.ID).Msg("row cannot be carried; written to DEAD")
}
