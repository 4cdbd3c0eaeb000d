package worker

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/deadletter"
	"github.com/omflow-booster/omflow-booster/internal/work"
	"github.com/omflow-booster/omflow-booster/worker/outbox"
)

const (
	reconcilerTTL  = 10 * time.Second // from the death of the reconciler to the next one
	reconcileBatch = 500              // rows read and published at once
	// comparing may take a twentieth of the time, and proving another: huge backlogs are looked at less often
	reconcileShare = 20
	roundTimeout   = 10 * time.Minute // of all statements and publishes of a round
)

// reconciler publishes rows that have no message: their publisher died between the row and the publish, no Booster answered
// then, or the Booster lost its data. It runs in one worker at a time.
//
// A round lists the rows. One that it sees for the second round running, and has not made sure of yet, it publishes: WORK takes
// it, or refuses it because it is queued already, and either way the row is believed from then on. Belief is tested in three
// ways:
//
//   - The queue shows a loss in its age, its sequence, or a count: WORK and DEAD hold fewer messages for these rows than the
//     reconciler believes queued. It then looks at every row again, at once.
//   - Somebody changes DEAD and names the rows (bus.AskProof). The reconciler looks at these rows at once.
//   - Each round publishes some believed rows again, in turn, for a bounded part of the time. A count can hide a loss; a publish
//     cannot.
type reconciler struct {
	js    jetstream.JetStream
	store interface {
		IDs(ctx context.Context) ([]work.ID, error)
		Load(ctx context.Context, ids []work.ID) ([]outbox.Stored, error)
		LoadUnlocked(ctx context.Context, ids []work.ID) ([]outbox.Stored, error)
		Prune(ctx context.Context, before time.Time, limit int) (int64, error)
		PruneReleases(ctx context.Context) error
	}
	publish  func(ctx context.Context, steps []*outgoing)
	every    time.Duration
	worker   string
	database string
	log      zerolog.Logger

	belief
	requests
	pruning
}

// belief is what the reconciler holds of rows and of the queue.
type belief struct {
	sure   map[work.ID]struct{} // rows whose message was in WORK or DEAD when it was looked for
	seen   map[work.ID]struct{} // rows of the last round that are not sure
	proven work.ID              // the last row that was proven in turn
	dead   *deadletter.List
	queue  struct { // WORK in the last round
		created time.Time
		seq     uint64
	}
}

// requests are the rows that somebody wants to be looked at.
type requests struct {
	mu    sync.Mutex
	asked map[work.ID]struct{}
	wake  chan struct{}
}

// pruning is how old the history may grow.
type pruning struct {
	keep   time.Duration // 0: for ever
	pruned time.Time     // when it was shortened last
}

// run works rounds until ctx ends. Errors are logged: the next round starts from what is known.
func (r *reconciler) run(ctx context.Context) {
	r.sure, r.seen, r.dead, r.wake = map[work.ID]struct{}{}, nil, deadletter.NewList(r.js), make(chan struct{}, 1)
	stop, err := bus.AnswerProof(r.js.Conn(), r.ask)
	if err != nil {
		r.log.Warn().Err(err).Msg("requests to look at rows are not heard; they are looked at in turn")
	} else {
		defer stop()
	}
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
		pause := max(r.every, reconcileShare*min(compared, before))
		if !bus.Sleep(ctx, pause/reconcileShare) || !bus.Wait(ctx, r.wake, pause) {
			return
		}
		before = compared
	}
}

// ask notes rows to be looked at and ends the pause between two rounds.
func (r *requests) ask(ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asked == nil {
		r.asked = map[work.ID]struct{}{}
	}
	for _, text := range ids {
		if id, err := work.ParseID(text); err == nil {
			r.asked[id] = struct{}{}
		}
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *requests) takeAsked() map[work.ID]struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked := r.asked
	r.asked = nil
	return asked
}

// round compares once, publishes what is missing, and proves some of what is believed. It returns how long the comparison took.
func (r *reconciler) round(ctx context.Context) (compared time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	began := time.Now()
	asked := r.takeAsked()
	messages, same, err := r.count(ctx) // before the rows, see below
	if err == nil {
		err = r.dead.Refresh(ctx)
	}
	var ids []work.ID
	if err == nil {
		ids, err = r.store.IDs(ctx)
	}
	if err != nil {
		r.askAgain(asked)
		return time.Since(began), err
	}
	due, waiting := r.sort(ids, asked)
	// A row that is sure and still there when the rows were listed had its message when the messages were counted before.
	lost := !same || messages < uint64(waiting)
	if lost {
		r.log.Warn().Int("rows", waiting).Uint64("messages", messages).Msg("the queue lost messages; looking at every row")
		r.sure, due = map[work.ID]struct{}{}, ids
	}
	compared = time.Since(began)
	load := r.store.Load
	if !lost && len(due) <= reconcileBatch {
		load = r.store.LoadUnlocked // a step that runs in hand holds the lock of its row, and needs no message
	}
	if _, err := r.requeue(ctx, due, load); err != nil {
		r.askAgain(asked)
		return compared, err
	}
	if lost {
		return compared, nil // all of it is proven
	}
	return compared, r.prove(ctx, ids)
}

func (r *requests) askAgain(asked map[work.ID]struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range asked {
		if r.asked == nil {
			r.asked = map[work.ID]struct{}{}
		}
		r.asked[id] = struct{}{}
	}
}

// sort takes the rows apart: those that are due to be published, and how many of those that are believed must have a message in WORK.
func (r *reconciler) sort(ids []work.ID, asked map[work.ID]struct{}) (due []work.ID, waiting int) {
	sure, seen := make(map[work.ID]struct{}, len(ids)), map[work.ID]struct{}{}
	for _, id := range ids {
		_, wanted := asked[id]
		if _, ok := r.sure[id]; ok && !wanted {
			sure[id] = struct{}{}
			if !r.dead.Lately(id) {
				waiting++
			}
			continue
		}
		seen[id] = struct{}{}
		if _, ok := r.seen[id]; ok || wanted {
			due = append(due, id)
		}
	}
	r.sure, r.seen = sure, seen // without the rows that are finished
	return due, waiting
}

// count returns how many messages WORK holds, and whether it is still the stream of the last round: not made anew, and not set
// back by a power cut.
func (r *reconciler) count(ctx context.Context) (messages uint64, same bool, err error) {
	s, err := bus.LookAt(ctx, r.js, bus.StreamWork)
	if err != nil {
		return 0, false, err
	}
	info, last := s.CachedInfo(), &r.queue
	same = last.created.IsZero() || (info.Created.Equal(last.created) && info.State.LastSeq >= last.seq)
	last.created, last.seq = info.Created, info.State.LastSeq
	return info.State.Msgs, same, nil
}

// prune removes history that is old enough, and notes on steps that are gone.
func (r *reconciler) prune(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	r.pruned = time.Now()
	err := r.store.PruneReleases(ctx)
	for n := int64(pruneBatch); err == nil && n == pruneBatch && r.keep > 0; {
		n, err = r.store.Prune(ctx, r.pruned.Add(-r.keep), pruneBatch)
	}
	if err != nil && ctx.Err() == nil {
		r.log.Warn().Err(err).Msg("old step history not removed")
	}
}
