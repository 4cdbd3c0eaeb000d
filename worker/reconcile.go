package worker

import (
	"context"
	"fmt"
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
	reconcileShare = 20               // a round may take a twentieth of the time: huge backlogs are looked at less often
)

// reconciler publishes rows that have no message: their publisher died between the row and the publish, no Booster answered
// then, or the Booster lost its data. It runs in one worker at a time.
//
// A round lists the identities in SQL and then those in WORK and DEAD (the last token of their subjects; one request for 100,000 of
// them). What is in SQL alone in two rounds running is published. The order of the two lists matters: a row that
// is finished between them is missing from the second list for a good reason, but it is also gone when it is loaded.
type reconciler struct {
	js    jetstream.JetStream
	store interface {
		IDs(ctx context.Context) ([]work.ID, error)
		Load(ctx context.Context, ids []work.ID) ([]outbox.Stored, error)
		Prune(ctx context.Context, before time.Time, limit int) (int64, error)
	}
	publish func(ctx context.Context, steps []*outgoing)
	every   time.Duration
	keep    time.Duration // of the history; 0: for ever
	worker  string
	log     zerolog.Logger

	missing map[work.ID]struct{} // without a message in the last round
	pruned  time.Time
}

// run works rounds until ctx ends. Errors are logged: the next round starts from scratch.
func (r *reconciler) run(ctx context.Context) {
	r.missing = nil
	for {
		began := time.Now()
		if err := r.round(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn().Err(err).Msg("rows not compared with the queue; trying again")
		}
		if r.keep > 0 && time.Since(r.pruned) > pruneEvery {
			r.prune(ctx)
		}
		if !sleep(ctx, max(r.every, reconcileShare*time.Since(began))) {
			return
		}
	}
}

func (r *reconciler) round(ctx context.Context) error {
	ids, err := r.store.IDs(ctx)
	if err != nil {
		return err
	}
	if len(ids) == 0 {
		r.missing = nil
		return nil
	}
	queued := make(map[work.ID]struct{}, len(ids))
	for _, stream := range []string{bus.StreamWork, bus.StreamDead} {
		if err := r.list(ctx, stream, queued); err != nil {
			return err
		}
	}
	missing := make(map[work.ID]struct{})
	var again []work.ID
	for _, id := range ids {
		if _, ok := queued[id]; ok {
			continue
		}
		missing[id] = struct{}{}
		if _, ok := r.missing[id]; ok {
			again = append(again, id)
		}
	}
	r.missing = missing
	return r.requeue(ctx, again)
}

// list adds the identity of every message of a stream to ids.
func (r *reconciler) list(ctx context.Context, stream string, ids map[work.ID]struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s, err := r.js.Stream(ctx, stream)
	if err != nil {
		return fmt.Errorf("open %s: %w", stream, err)
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(">"))
	if err != nil {
		return fmt.Errorf("list %s: %w", stream, err)
	}
	for subject := range info.State.Subjects {
		if id, err := work.ParseID(bus.SubjectID(subject)); err == nil {
			ids[id] = struct{}{}
		}
	}
	return nil
}

// requeue publishes the rows that are still there, in the order of their keys.
func (r *reconciler) requeue(ctx context.Context, ids []work.ID) error {
	queued, refused := 0, 0
	for len(ids) > 0 {
		batch := ids[:min(len(ids), reconcileBatch)]
		ids = ids[len(batch):]
		stored, err := r.store.Load(ctx, batch)
		if err != nil {
			return err
		}
		steps := make([]*outgoing, 0, len(stored))
		for _, s := range stored {
			if s.Err != nil {
				r.bury(ctx, s)
				continue
			}
			msg, err := message(s.ID, s.Item)
			if err != nil {
				s.Err = err
				r.bury(ctx, s)
				continue
			}
			// Not the identity that the dedupe window knows: that one may have been consumed a moment ago without an effect.
			// Against doubles the stream itself guards, with one message for each subject.
			msg.Header.Set(bus.HeaderMsgID, fmt.Sprintf("%s-again-%d", s.ID.MsgID(), time.Now().UnixMilli()))
			steps = append(steps, &outgoing{id: s.ID, msg: msg})
		}
		r.publish(ctx, steps)
		for _, s := range steps {
			if s.queued {
				queued++
				delete(r.missing, s.id)
			} else {
				refused++
			}
		}
		if refused > 0 {
			break // no Booster, or no room: the next round goes on
		}
	}
	if queued+refused > 0 {
		r.log.Info().Int("queued", queued).Int("refused", refused).Int("left", len(ids)).Msg("rows without a message queued")
	}
	return nil
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
	r.log.Error().Err(s.Err).AnErr("dead", err).Stringer(logging.Work, s.ID).Msg("row cannot be carried; written to DEAD")
}

func (r *reconciler) prune(ctx context.Context) {
	r.pruned = time.Now()
	before := r.pruned.Add(-r.keep)
	for ctx.Err() == nil {
		n, err := r.store.Prune(ctx, before, pruneBatch)
		if err != nil {
			r.log.Warn().Err(err).Msg("old step history not removed")
		}
		if err != nil || n < pruneBatch {
			return
		}
	}
}
