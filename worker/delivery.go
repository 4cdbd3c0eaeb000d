package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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
	ackTimeout     = 5 * time.Second // of one confirmed ack, nak or publish to DEAD
	retryCeiling   = 5 * time.Minute // longest wait between two tries
	returnDelayMax = 10 * time.Second
	deadRetry      = 30 * time.Second
)

// deliveries runs each delivered step to its end: done, to be tried again, or dead. All times are bounded but the step's own.
//
//	delivered ─▶ row gone? ──yes──▶ ack
//	    │ no
//	    ▼
//	  execute ──ok──▶ remove row ──▶ ack
//	    │ failed
//	    ├─ tries left ──▶ nak with delay ──▶ delivered again, here or elsewhere
//	    └─ none left  ──▶ publish to DEAD ──▶ ack        (the row stays: the step is not done)
type deliveries struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	rows     rows
	finish   func(ctx context.Context, id work.ID, redelivered bool) error
	executor Executor
	submit   func(ctx context.Context, items []work.Item) ([]Accepted, error)
	record   func(outbox.Attempt)
	counts   *counters
	log      zerolog.Logger

	queue       *queue
	worker      string
	database    string // id of ours
	checkFirst  bool   // ask for the row on first deliveries too: for executors that have no fence of their own
	stepTimeout time.Duration
	maxAttempts int
	retryBase   time.Duration

	soft context.Context // ends when the worker is asked to stop: nothing new is begun
	hard context.Context // ends when running steps must end too
}

// delivery is one message while it is here.
type delivery struct {
	*deliveries
	msg       jetstream.Msg
	seq       uint64          // of the message in WORK
	lost      <-chan struct{} // closed when the queue that it came from is gone
	step      Step
	delivered uint64 // how often the message was delivered, this time included
	discard   bool   // an order to remove the row without running the step
	log       zerolog.Logger
}

// handle runs one delivered message to its end. asked is when it was asked for: its lease cannot have begun before.
func (ds *deliveries) handle(msg jetstream.Msg, asked time.Time) {
	d, err := ds.open(msg, asked)
	if err != nil {
		ds.reject(msg, err)
		return
	}
	ctx, cancel := context.WithCancelCause(ds.hard)
	defer cancel(nil)
	stopRenewing := d.keepLease(ctx, cancel)
	defer stopRenewing()

	if ds.foreign(d) {
		return
	}
	if d.discard {
		d.throwAway(ctx)
		return
	}
	if run := d.checkRow(ctx); !run {
		return
	}
	if d.step.Attempt > d.maxAttempts {
		d.deadLetter("the worker ended during the last try, or DEAD was full", errors.New("no answer from the last try"), time.Time{})
		return
	}
	if len(d.step.Item.InputParam) == 0 && !d.readItem(ctx) {
		return
	}
	d.execute(ctx)
}

// open reads the message. It fails for one that no publisher of ours has written.
func (ds *deliveries) open(msg jetstream.Msg, asked time.Time) (*delivery, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", work.ErrMalformed, err)
	}
	id, err := work.ParseID(bus.SubjectID(msg.Subject()))
	if err != nil {
		return nil, fmt.Errorf("%w: subject %s: %w", work.ErrMalformed, msg.Subject(), err)
	}
	d := &delivery{
		deliveries: ds, msg: msg, seq: meta.Sequence.Stream, delivered: meta.NumDelivered,
		discard: msg.Headers().Get(bus.HeaderDiscard) != "",
	}
	it, err := work.Parse(msg.Data())
	if err != nil && !d.discard { // what is thrown away need not be readable
		return nil, err
	}
	flow, ticket := it.Flow()
	d.step = Step{
		ID: id, Attempt: int(min(meta.NumDelivered, 1<<30)), Kind: it.Name, Flow: flow, Ticket: ticket, Item: it,
		Lease: NewLease(asked.Add(ds.queue.leaseTime())),
	}
	d.lost = ds.queue.delivered(d.seq)
	d.step.Put = d.put
	d.log = ds.log.With().Stringer(logging.Work, id).Str(logging.Ticket, ticket).Uint64("delivery", meta.NumDelivered).Logger()
	return d, nil
}

// execute runs the step and decides what becomes of it.
func (d *delivery) execute(ctx context.Context) {
	started := time.Now()
	run, cancel := context.WithTimeoutCause(ctx, d.stepTimeout, fmt.Errorf("step ran longer than %s", d.stepTimeout))
	err := d.executor.Execute(run, d.step)
	if cause := context.Cause(run); err != nil && cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	cancel()

	var later *RetryAfter
	switch {
	case err == nil:
		d.done(ctx, started)
	case errors.Is(err, ErrDoneBefore):
		d.skip(ctx)
	case errors.Is(err, ErrKept):
		d.await(started)
	case errors.Is(err, ErrLeaseLost) || !d.step.Lease.Valid():
		d.log.Warn().Err(err).Msg("step left to the worker that has it now")
	case d.hard.Err() != nil:
		d.log.Warn().Msg("step ended by the stop; given back")
		d.release(0)
	case errors.Is(err, ErrNotStarted):
		delay := d.backoff(1)
		if errors.As(err, &later) {
			delay = d.returnDelay(later.Wait)
		}
		d.log.Warn().Err(err).Dur("again_in", delay).Msg("step not started; given back")
		d.release(delay)
	default:
		d.failed(ctx, err, started)
	}
}

// returnDelay is for how long a step is given back that asks to be tried again after wait: longer with each delivery, because the
// queue gives what is due again before anything new, and some steps that wait for each other must not keep all others from
// being delivered.
func (d *delivery) returnDelay(wait time.Duration) time.Duration {
	return max(wait, min(wait*time.Duration(min(d.delivered, 1000)), returnDelayMax))
}

// await leaves the row of a step to the server, which goes on with it when an answer comes. The message stays, so that nobody
// queues the row again; when it comes once more, the row is gone. An answer that has not come in the time that a step may take
// counts as a failed try.
func (d *delivery) await(started time.Time) {
	d.log.Info().Dur("at_most", d.stepTimeout).Msg("step waits for an answer")
	d.note("kept", nil, started)
	d.nak(d.stepTimeout)
}

// skip ends a step that an earlier delivery has done. It is no try, so the history says nothing of it.
func (d *delivery) skip(ctx context.Context) {
	d.counts.skipped.Add(1)
	d.log.Info().Msg("step was done already")
	d.complete(ctx)
}

func (d *delivery) done(ctx context.Context, started time.Time) {
	d.counts.done.Add(1)
	d.log.Debug().Dur("took", time.Since(started)).Msg("step done")
	d.note("done", nil, started)
	d.complete(ctx)
}

// failed decides what becomes of a step that failed. It looks at the database first: the effect may be in place although the
// answer was lost, and a step that failed while the database was away has not had its chance.
func (d *delivery) failed(ctx context.Context, cause error, started time.Time) {
	check, away, err := d.lookUp(ctx)
	var later *RetryAfter
	switch {
	case !d.step.Lease.Valid():
		d.log.Warn().Err(cause).Msg("step left to the worker that has it now")
	case err != nil:
		d.returnUnseen(err)
	case !check.Found:
		d.log.Info().AnErr("answer", cause).Msg("step is done, although its answer says otherwise")
		d.done(ctx, started)
	case away:
		d.log.Warn().Err(cause).Msg("step failed while the database was away; given back")
		d.release(d.backoff(1))
	case errors.Is(cause, ErrPermanent):
		d.deadLetter("failed for good", cause, started)
	case d.step.Attempt >= d.maxAttempts:
		d.deadLetter(fmt.Sprintf("failed %d times", d.step.Attempt), cause, started)
	default:
		delay := d.backoff(d.step.Attempt)
		if errors.As(cause, &later) {
			delay = later.Wait // who says when knows better than we do
		}
		d.counts.failed.Add(1)
		d.log.Warn().Err(cause).Int(logging.Attempt, d.step.Attempt).Dur("again_in", delay).Msg("step failed")
		d.note("failed", cause, started)
		d.nak(delay)
	}
}

// put publishes follow-up work for the step, as long as the step is ours.
func (d *delivery) put(ctx context.Context, items []work.Item) ([]work.ID, error) {
	if !d.step.Lease.Valid() {
		return nil, ErrLeaseLost
	}
	list, err := d.submit(ctx, items)
	if errors.Is(err, ErrUnavailable) && allQueueRows(items) {
		list, err = make([]Accepted, len(items)), nil // their rows are in SQL already: the reconciler publishes them
		for i, it := range items {
			list[i].ID = work.ID{Source: work.Queue, Row: it.Row}
		}
	}
	ids := make([]work.ID, len(list))
	for i, a := range list {
		ids[i] = a.ID
	}
	return ids, err
}

func allQueueRows(items []work.Item) bool {
	for _, it := range items {
		if it.Row == 0 {
			return false
		}
	}
	return true
}

// complete removes the row and then the message of a step that has had its effect. If the row cannot be removed, the message
// stays, and the next delivery finds out what is left to do.
func (d *delivery) complete(ctx context.Context) {
	for {
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), ackTimeout)
		err := d.finish(call, d.step.ID, d.delivered > 1)
		cancel()
		if err == nil {
			d.ack()
			return
		}
		d.log.Warn().Err(err).Msg("row of a finished step not removed; trying again")
		if !d.wait(ctx, databaseWait) {
			d.nak(0)
			return
		}
	}
}

// release returns a message that arrived when the worker was stopping already.
func (ds *deliveries) release(msg jetstream.Msg) {
	if d, err := ds.open(msg, time.Now()); err == nil {
		d.release(0)
	}
}

// backoff is the wait after the given attempt: doubling from retryBase, with a fifth of jitter so that a storm spreads.
func (d *delivery) backoff(attempt int) time.Duration {
	wait := d.retryBase
	for range min(attempt-1, 20) {
		wait = min(wait*2, retryCeiling)
	}
	return wait + rand.N(wait/5+1) //nolint:gosec // jitter
}

func (d *delivery) note(outcome string, cause error, started time.Time) {
	attempt := outbox.Attempt{
		WorkID: d.step.ID.String(), Kind: d.step.Kind, Flow: d.step.Flow, Ticket: d.step.Ticket, Worker: d.worker,
		Attempt: d.step.Attempt, Outcome: outcome, Started: started,
	}
	if started.IsZero() {
		attempt.Started = time.Now()
	} else {
		attempt.Duration = time.Since(started).Microseconds()
	}
	if cause != nil {
		attempt.Error = cause.Error()
	}
	d.record(attempt)
}
