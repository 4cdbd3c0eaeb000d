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
	link
	policy
	tally
	executor Executor
	submit   func(ctx context.Context, items []work.Item) ([]Accepted, error)
	publish  func(ctx context.Context, steps []*outgoing)
	finish   func(ctx context.Context, id work.ID, redelivered bool) error
	mayBegin func() bool     // a step that no message gave: not during a cordon, or when the worker is asked to stop
	database string          // id of ours
	soft     context.Context // ends when the worker is asked to stop: nothing new is begun
	log      zerolog.Logger
}

// link is what claims on steps need: the way to the Booster, and the rows.
type link struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	queue  *queue
	rows   rows
	leases *keeper
	ends   *finisher
	hard   context.Context // ends when running steps must end too
}

// policy is how long and how often a step is tried.
type policy struct {
	checkFirst  bool // ask for the row on first deliveries too: for executors that have no fence of their own
	stepTimeout time.Duration
	maxAttempts int
	retryBase   time.Duration
}

// tally is what people see of steps.
type tally struct {
	worker string // name of this one
	record func(outbox.Attempt)
	counts *counters
}

// claim is the right to run a step now, and how this worker gives it up: a message, or inHand. Each method ends it but bury.
type claim interface {
	ack()                        // the step needs nothing more
	nak(delay time.Duration)     // the step is to be tried again; this was an attempt
	release(delay time.Duration) // the step is to be tried again, and this was no attempt
	bury(death bus.Death) error  // write the step to DEAD, before ack
}

// message is the claim of a step that came with a message of WORK. Its lease says how long it holds.
type message struct {
	*nats.Msg
	*link
	id    work.ID
	seq   uint64          // in WORK
	lost  <-chan struct{} // closed when the queue that it came from is gone
	lease *Lease
	ended bool // its end was handed to the finisher
	log   zerolog.Logger
}

// run is one step while it is here.
type run struct {
	*deliveries
	claim
	step      Step
	seq       uint64 // of its message in WORK
	delivered uint64 // how often the message was delivered, this time included
	log       zerolog.Logger
}

// delivery is one message, and the step that it is about.
type delivery struct {
	run
	msg     *message
	discard bool          // an order to remove the row without running the step
	early   time.Duration // until when the step is not to run, from now
	looked  *outbox.Check // its row, read together with those of others
}

// handle runs one delivered message until its end is handed to the finisher.
func (ds *deliveries) handle(d *delivery) {
	ds.counts.running.Add(1)
	defer ds.counts.running.Add(-1)
	ctx, cancel := context.WithCancelCause(ds.hard)
	defer cancel(nil)
	ds.leases.running(d.msg, cancel)
	defer d.msg.leave()

	if ctx.Err() != nil {
		d.log.Warn().Err(context.Cause(ctx)).Msg("step not begun")
		d.release(0)
		return
	}
	if ds.foreign(d) {
		return
	}
	if d.discard {
		d.throwAway(ctx)
		return
	}
	if d.early > 0 {
		d.log.Debug().Dur("again_in", d.early).Msg("step came before its time; given back")
		d.release(d.early)
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
	c := &chain{deliveries: ds, msg: d.msg, began: time.Now()}
	c.run(ctx, &d.run)
}

// leave ends the lease of a step that is left to its next delivery.
func (m *message) leave() {
	if m.ended {
		m.leases.running(m, nil)
	} else {
		m.leases.forget(m)
	}
}

// open reads the message and keeps its lease from then on. asked is when it was asked for: its lease cannot have begun before. It fails
// for a message that no publisher of ours has written.
func (ds *deliveries) open(msg *nats.Msg, asked time.Time) (*delivery, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", work.ErrMalformed, err)
	}
	id, err := work.ParseID(bus.SubjectID(msg.Subject))
	if err != nil {
		return nil, fmt.Errorf("%w: subject %s: %w", work.ErrMalformed, msg.Subject, err)
	}
	discard := msg.Header.Get(bus.HeaderDiscard) != ""
	it, err := work.Parse(msg.Data)
	if err != nil && !discard { // what is thrown away need not be readable
		return nil, err
	}
	m := &message{
		Msg: msg, link: &ds.link, id: id, seq: meta.Sequence.Stream, lost: ds.queue.delivered(meta.Sequence.Stream),
		lease: NewLease(asked.Add(ds.queue.leaseTime())),
	}
	d := &delivery{run: ds.begin(m, id, it, m.lease), msg: m, discard: discard}
	tried, delay := bus.Retry(msg.Header)
	d.seq, d.delivered, d.step.Attempt = m.seq, meta.NumDelivered, tried+int(min(meta.NumDelivered, 1<<30))
	if d.delivered == 1 { // the Booster itself keeps the delay of each later delivery; our clock may be another than its clock
		d.early = min(delay, time.Until(meta.Timestamp.Add(delay)))
	}
	d.log = d.log.With().Uint64("delivery", meta.NumDelivered).Logger()
	m.log = d.log
	ds.leases.keep(m)
	return d, nil
}

// begin is a step that came with this claim and lease.
func (ds *deliveries) begin(c claim, id work.ID, it work.Item, lease *Lease) run {
	flow, ticket := it.Flow()
	r := run{
		deliveries: ds, claim: c, log: ds.log.With().Stringer(logging.Work, id).Str(logging.Ticket, ticket).Logger(),
		step: Step{ID: id, Attempt: 1, Kind: it.Name, Flow: flow, Ticket: ticket, Item: it, Lease: lease},
	}
	r.step.Put = func(ctx context.Context, items []work.Item) ([]work.ID, error) { return ds.put(ctx, lease, items) }
	return r
}

// execute runs the step and decides what becomes of it. It returns follow-up steps that have rows and no messages; then the claim still
// holds.
func (r *run) execute(ctx context.Context) (next []work.Item) {
	started := time.Now()
	r.step.Follow = func(items []work.Item) { next = items }
	run, cancel := context.WithTimeoutCause(ctx, r.stepTimeout, fmt.Errorf("step ran longer than %s", r.stepTimeout))
	err := r.executor.Execute(run, r.step)
	if cause := context.Cause(run); err != nil && cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	cancel()

	var later *RetryAfter
	switch {
	case err == nil:
		r.countDone(started)
		switch {
		case len(next) == 0:
			r.complete(ctx)
		case r.rowGone() || r.removeRow(ctx):
			return next
		}
	case errors.Is(err, ErrDoneBefore):
		r.skip(ctx)
	case errors.Is(err, ErrKept):
		r.await(started)
	case errors.Is(err, ErrLeaseLost) || !r.step.Lease.Valid():
		r.log.Warn().Err(err).Msg("step left to the worker that has it now")
	case r.hard.Err() != nil:
		r.log.Warn().Msg("step ended by the stop; given back")
		r.release(0)
	case errors.Is(err, ErrNotStarted):
		delay := r.backoff(1)
		if errors.As(err, &later) {
			delay = r.returnDelay(later.Wait)
		}
		r.log.Warn().Err(err).Dur("again_in", delay).Msg("step not started; given back")
		r.release(delay)
	default:
		r.failed(ctx, err, started)
	}
	return nil
}

// returnDelay is for how long a step is given back that asks to be tried again after wait: longer with each delivery, because the
// queue gives what is due again before anything new, and some steps that wait for each other must not keep all others from
// being delivered.
func (r *run) returnDelay(wait time.Duration) time.Duration {
	return max(wait, min(wait*time.Duration(min(r.delivered, 1000)), returnDelayMax))
}

// await leaves the row of a step to the server, which goes on with it when an answer comes. The message stays, so that nobody
// queues the row again; when it comes once more, the row is gone. An answer that has not come in the time that a step may take
// counts as a failed try.
func (r *run) await(started time.Time) {
	r.log.Info().Dur("at_most", r.stepTimeout).Msg("step waits for an answer")
	r.note("kept", nil, started)
	r.nak(r.stepTimeout)
}

// skip ends a step that an earlier delivery has done. It is no try, so the history says nothing of it.
func (r *run) skip(ctx context.Context) {
	r.counts.skipped.Add(1)
	r.log.Info().Msg("step was done already")
	r.complete(ctx)
}

func (r *run) countDone(started time.Time) {
	r.counts.done.Add(1)
	r.log.Debug().Dur("took", time.Since(started)).Msg("step done")
	r.note("done", nil, started)
}

// failed decides what becomes of a step that failed. It looks at the database first: the effect may be in place although the
// answer was lost, and a step that failed while the database was away has not had its chance.
func (r *run) failed(ctx context.Context, cause error, started time.Time) {
	check, away, err := r.lookUp(ctx)
	var later *RetryAfter
	switch {
	case !r.step.Lease.Valid():
		r.log.Warn().Err(cause).Msg("step left to the worker that has it now")
	case err != nil:
		r.returnUnseen(err)
	case !check.Found:
		r.log.Info().AnErr("answer", cause).Msg("step is done, although its answer says otherwise")
		r.countDone(started)
		r.complete(ctx)
	case away:
		r.log.Warn().Err(cause).Msg("step failed while the database was away; given back")
		r.release(r.backoff(1))
	case errors.Is(cause, ErrPermanent):
		r.deadLetter("failed for good", cause, started)
	case r.step.Attempt >= r.maxAttempts:
		r.deadLetter(fmt.Sprintf("failed %d times", r.step.Attempt), cause, started)
	default:
		delay := r.backoff(r.step.Attempt)
		if errors.As(cause, &later) {
			delay = later.Wait // who says when knows better than we do
		}
		r.counts.failed.Add(1)
		r.log.Warn().Err(cause).Int(logging.Attempt, r.step.Attempt).Dur("again_in", delay).Msg("step failed")
		r.note("failed", cause, started)
		r.nak(delay)
	}
}

// put publishes follow-up work for a step, as long as the step is ours.
func (ds *deliveries) put(ctx context.Context, lease *Lease, items []work.Item) ([]work.ID, error) {
	if !lease.Valid() {
		return nil, ErrLeaseLost
	}
	list, err := ds.submit(ctx, items)
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

// rowGone tells whether the row of a step that has named follow-up steps is gone for certain: it went with the commit of their rows. Notes
// on deliveries that were given back may be left.
func (r *run) rowGone() bool { return r.step.ID.Source == work.Queue && r.delivered <= 1 }

// complete removes the row and then the message of a step that has had its effect.
func (r *run) complete(ctx context.Context) {
	if m, ok := r.claim.(*message); ok {
		m.complete(r.delivered > 1) // off the slot
	} else if r.removeRow(ctx) {
		r.ack()
	}
}

// removeRow removes the row of a step that has had its effect. If it cannot, it gives the step back, and the next delivery finds out
// what is left to do.
func (r *run) removeRow(ctx context.Context) bool {
	for {
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), ackTimeout)
		err := r.finish(call, r.step.ID, r.delivered > 1)
		cancel()
		if err == nil {
			return true
		}
		r.log.Warn().Err(err).Msg("row of a finished step not removed; trying again")
		if !r.wait(ctx, databaseWait) {
			r.nak(0)
			return false
		}
	}
}

// backoff is the wait after the given attempt: doubling from retryBase, with a fifth of jitter so that a storm spreads.
func (r *run) backoff(attempt int) time.Duration {
	wait := r.retryBase
	for range min(attempt-1, 20) {
		wait = min(wait*2, retryCeiling)
	}
	return wait + rand.N(wait/5+1) //nolint:gosec // jitter
}

func (r *run) note(outcome string, cause error, started time.Time) {
	attempt := outbox.Attempt{
		WorkID: r.step.ID.String(), Kind: r.step.Kind, Flow: r.step.Flow, Ticket: r.step.Ticket, Worker: r.worker,
		Attempt: r.step.Attempt, Outcome: outcome, Started: started,
	}
	if started.IsZero() {
		attempt.Started = time.Now()
	} else {
		attempt.Duration = time.Since(started).Microseconds()
	}
	if cause != nil {
		attempt.Error = cause.Error()
	}
	r.record(attempt)
}
