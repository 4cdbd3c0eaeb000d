package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/work"
	"github.com/omflow-booster/omflow-booster/worker/outbox"
)

const (
	reconcilerTTL  = 10 * time.Second // from the death of the reconciler to the next one
	reconcileBatch = 500              // rows read and published at once
	reconcileShare = 20               // comparing may take a twentieth of the time: huge backlogs are looked at less often
	roundTimeout   = 10 * time.Minute // of all statements and publishes of a round
)

// reconciler publishes rows that have no message: their publisher died between the row and the publish, no Booster answered
// then, or the Booster lost its data. It runs in one worker at a time.
//
// A round lists the rows. One that it sees for the second round running, and has not made sure of yet, it publishes: WORK takes it, or refuses
// it because it is queued already, and either way this row needs no second look as long as the queue stays what it is. That the queue lost
// something shows in its age, its sequence, or a count (WORK and DEAD together hold less than there are such rows); then everything is looked at again.
type reconciler struct {
	js    jetstream.JetStream
	store interface {
		IDs(ctx context.Context) ([]work.ID, error)
		Load(ctx context.Context, ids []work.ID) ([]outbox.Stored, error)
		Prune(ctx context.Context, before time.Time, limit int) (int64, error)
		PruneGivebacks(ctx context.Context) error
	}
	publish func(ctx context.Context, steps []*outgoing)
	every   time.Duration
	keep    time.Duration // of the history; 0: for ever
	worker  string
	log     zerolog.Logger

	sure   map[work.ID]struct{} // rows whose message was in WORK or DEAD when it was looked for
	seen   map[work.ID]struct{} // rows of the last round that are not sure
	pruned time.Time

	last [2]struct { // of WORK and DEAD in the last round
		created time.Time
		seq     uint64
	}
}

// run works rounds until ctx ends. Errors are logged: the next round starts from what is known.
func (r *reconciler) run(ctx context.Context) {
	r.sure, r.seen = map[work.ID]struct{}{}, nil
	var before time.Duration // of the round before
	for {
		compared, err := r.round(ctx)
		if err != nil && ctx.Err() == nil {
			r.log.Warn().Err(err).Msg("rows not compared with the queue; trying again")
			compared = 0 // it has cost nobody anything to wait for an answer that did not come
		}
		if time.Since(r.pruned) > pruneEvery {
			r.prune(ctx)
		}
		// One slow round may have been a frozen host; two are a huge backlog.
		if !bus.Sleep(ctx, max(r.every, reconcileShare*min(compared, before))) {
			return
		}
		before = compared
	}
}

// round compares once and publishes what is missing. It returns how long the comparison took.
func (r *reconciler) round(ctx context.Context) (compared time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	began := time.Now()
	messages, dead, same, err := r.count(ctx) // before the rows, see below
	if err != nil {
		return time.Since(began), err
	}
	ids, err := r.store.IDs(ctx)
	if err != nil {
		return time.Since(began), err
	}
	sure, seen := make(map[work.ID]struct{}, len(ids)), map[work.ID]struct{}{}
	var due []work.ID
	for _, id := range ids {
		if _, ok := r.sure[id]; ok {
			sure[id] = struct{}{}
			continue
		}
		seen[id] = struct{}{}
		if _, ok := r.seen[id]; ok {
			due = append(due, id)
		}
	}
	r.sure, r.seen = sure, seen // without the rows that are finished
	// A row that is sure and still there when the rows were listed had its message when the messages were counted before.
	if !same || messages < uint64(len(sure)) {
		r.log.Warn().Int("rows", len(sure)).Uint64("messages", messages).Msg("the queue lost messages; looking at every row")
		r.sure, due = map[work.ID]struct{}{}, ids
	}
	compared = time.Since(began)
	return compared, r.requeue(ctx, due, dead > 0)
}

// count returns how many messages WORK and DEAD hold, how many of these DEAD, and whether the streams are still those of the last round: not made
// anew, and not set back by a power cut.
func (r *reconciler) count(ctx context.Context) (messages, dead uint64, same bool, err error) {
	same = true
	for i, name := range []string{bus.StreamWork, bus.StreamDead} {
		s, err := r.stream(ctx, name)
		if err != nil {
			return 0, 0, false, err
		}
		info, last := s.CachedInfo(), &r.last[i]
		if !last.created.IsZero() && (!info.Created.Equal(last.created) || info.State.LastSeq < last.seq) {
			same = false
		}
		last.created, last.seq = info.Created, info.State.LastSeq
		messages, dead = messages+info.State.Msgs, info.State.Msgs
	}
	return messages, dead, same, nil
}

// stream looks at a stream. It does not wait long: a request that was under way when the Booster died is never answered.
func (r *reconciler) stream(ctx context.Context, name string) (jetstream.Stream, error) {
	if err := bus.Away(r.js.Conn()); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	s, err := r.js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", name, err)
	}
	return s, nil
}

// requeue makes sure of rows, in the order of their keys: those that are still there and not dead are published.
func (r *reconciler) requeue(ctx context.Context, ids []work.ID, anyDead bool) error {
	added, left := 0, len(ids)
	defer func() {
		if added > 0 {
			r.log.Info().Int("queued", added).Int("left", left).Msg("rows without a message queued")
		}
	}()
	for batch := range slices.Chunk(ids, reconcileBatch) {
		stored, err := r.store.Load(ctx, batch)
		if err != nil {
			return err
		}
		steps, err := r.prepare(ctx, stored, anyDead)
		if err != nil {
			return err
		}
		r.publish(ctx, steps)
		for _, s := range steps {
			switch {
			case s.queued:
				r.sure[s.id] = struct{}{}
				if s.lastErr == nil {
					added++
				}
			case errors.Is(s.lastErr, nats.ErrMaxPayload):
				r.bury(ctx, outbox.Stored{ID: s.id, Err: s.lastErr})
			default: // no Booster, or no room: the next round goes on
				return fmt.Errorf("queue row %s: %w", s.id, s.lastErr)
			}
		}
		left -= len(batch)
	}
	return nil
}

// prepare builds the messages of rows that are not dead. Rows that can never be carried are made visible in DEAD.
func (r *reconciler) prepare(ctx context.Context, stored []outbox.Stored, anyDead bool) ([]*outgoing, error) {
	deadStream, err := r.stream(ctx, bus.StreamDead)
	if err != nil {
		return nil, err
	}
	steps := make([]*outgoing, 0, len(stored))
	for _, s := range stored {
		if anyDead {
			flow, _ := s.Item.Flow()
			call, cancel := context.WithTimeout(ctx, ackTimeout)
			_, err := deadStream.GetLastMsgForSubject(call, bus.DeadSubject(s.Item.Name, flow, s.ID.String()))
			cancel()
			if err == nil {
				r.sure[s.ID] = struct{}{}
				continue
			}
			if !errors.Is(err, jetstream.ErrMsgNotFound) {
				return nil, fmt.Errorf("look for %s in %s: %w", s.ID, bus.StreamDead, err)
			}
		}
		var body []byte
		if s.Err == nil {
			body, s.Err = s.Item.Lean().Encode()
		}
		if s.Err != nil {
			r.bury(ctx, s)
			continue
		}
		msg := message(s.ID, s.Item, body)
		// Not the identity that the dedupe window knows: that one may have been consumed a moment ago without an effect.
		// Against doubles the stream itself guards, with one message for each subject.
		msg.Header.Set(bus.HeaderMsgID, fmt.Sprintf("%s-again-%d", s.ID.MsgID(), time.Now().UnixNano()))
		// The step may have been done, or given up on, and acknowledged since its row was loaded.
		msg.Header.Set(bus.HeaderCheck, bus.CheckReconciled)
		steps = append(steps, &outgoing{id: s.ID, msg: msg})
	}
	return steps, nil
}

// bury makes a row that can never be carried visible in DEAD, without a body.
func (r *reconciler) bury(ctx context.Context, s outbox.Stored) {
	flow, key := s.Item.Flow()
	dead := nats.NewMsg(bus.DeadSubject(s.Item.Name, flow, s.ID.String()))
	dead.Header.Set(bus.HeaderID, s.ID.String())
	dead.Header.Set(bus.HeaderKind, bus.HeaderText(s.Item.Name))
	dead.Header.Set(bus.HeaderKey, bus.HeaderText(key))
	setDead(dead.Header, r.worker, "the row cannot be carried", s.Err, 0)
	call, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	_, err := r.js.PublishMsg(call, dead)
	if err == nil {
		r.sure[s.ID] = struct{}{}
	}
	r.log.Error().Err(s.Err).AnErr("dead", err).Stringer(logging.Work, s.ID).Msg("row cannot be carried; written to DEAD")
}

// prune removes history that is old enough, and notes on steps that are gone.
func (r *reconciler) prune(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	r.pruned = time.Now()
	err := r.store.PruneGivebacks(ctx)
	for n := int64(pruneBatch); err == nil && n == pruneBatch && r.keep > 0; {
		n, err = r.store.Prune(ctx, r.pruned.Add(-r.keep), pruneBatch)
	}
	if err != nil && ctx.Err() == nil {
		r.log.Warn().Err(err).Msg("old step history not removed")
	}
}
