package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
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
	ackTimeout   = 5 * time.Second // of one confirmed ack, nak or publish to DEAD
	retryCeiling = 5 * time.Minute // longest wait between two tries
	databaseWait = time.Second     // between two looks at a database that does not answer
	deadRetry    = 30 * time.Second
)

// rows is what the worker needs of the database for each step; implemented by outbox.Store.
type rows interface {
	Check(ctx context.Context, id work.ID) (outbox.Check, error)
	GiveBack(ctx context.Context, id work.ID) error
}

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
	record   func(outbox.Try)
	counts   *counters
	log      zerolog.Logger

	worker      string
	lease       time.Duration // AckWait of the consumer
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
	step      Step
	delivered uint64 // how often the message was delivered, this time included
	discard   bool   // an order to remove the row without running the step
	log       zerolog.Logger
}

// handle runs one delivered message to its end.
func (ds *deliveries) handle(msg jetstream.Msg) {
	d, err := ds.open(msg)
	if err != nil {
		ds.reject(msg, err)
		return
	}
	ctx, cancel := context.WithCancelCause(ds.hard)
	defer cancel(nil)
	stopRenewing := d.keepLease(ctx, cancel)
	defer stopRenewing()

	if d.discard {
		d.log.Info().Msg("step discarded by order")
		d.complete(ctx)
		return
	}
	if run := d.checkRow(ctx); !run {
		return
	}
	if d.step.Attempt > d.maxAttempts {
		d.bury("the worker ended during the last try", errors.New("no answer from the last try"), time.Time{})
		return
	}
	d.execute(ctx)
}

// open reads the message. It fails for one that no publisher of ours has written.
func (ds *deliveries) open(msg jetstream.Msg) (*delivery, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", work.ErrMalformed, err)
	}
	id, err := work.ParseID(bus.SubjectID(msg.Subject()))
	if err != nil {
		return nil, fmt.Errorf("%w: subject %s: %w", work.ErrMalformed, msg.Subject(), err)
	}
	d := &delivery{deliveries: ds, msg: msg, delivered: meta.NumDelivered, discard: msg.Headers().Get(bus.HeaderDiscard) != ""}
	it, err := work.Parse(msg.Data())
	if err != nil && !d.discard { // what is thrown away need not be readable
		return nil, err
	}
	flow, key := it.Flow()
	d.step = Step{
		ID: id, Attempt: int(min(meta.NumDelivered, 1<<30)), Kind: it.Name, Flow: flow, Key: key, Item: it,
		Lease: NewLease(time.Now().Round(0).Add(ds.lease)),
	}
	d.step.Put = d.put
	d.log = ds.log.With().Stringer(logging.Work, id).Str(logging.Key, key).Uint64("delivery", meta.NumDelivered).Logger()
	return d, nil
}

// keepLease renews the lease at a quarter of it, by a request that the Booster answers, so that the deadline is the truth.
// When the deadline passes all the same, the step's context ends with ErrLeaseLost.
func (d *delivery) keepLease(ctx context.Context, cancel context.CancelCauseFunc) (stop func()) {
	ctx, stopRenewing := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for sleep(ctx, d.lease/4) {
			began := time.Now().Round(0)
			if !d.step.Lease.Valid() {
				d.log.Warn().Msg("lease lost: this worker or its Booster stood still for too long")
				cancel(ErrLeaseLost)
				return
			}
			call, end := context.WithTimeout(ctx, d.lease/4)
			_, err := d.nc.RequestWithContext(call, d.msg.Reply(), []byte("+WPI"))
			end()
			if err == nil {
				d.step.Lease.Renew(began.Add(d.lease))
			}
		}
	}()
	return func() {
		stopRenewing()
		<-over
	}
}

// checkRow asks the database about a step that was delivered before: if its row is gone, it is done already. A database that
// does not answer is waited for while the lease holds, because trying blindly could double an effect.
func (d *delivery) checkRow(ctx context.Context) (run bool) {
	if d.delivered <= 1 {
		return true
	}
	d.counts.redelivered.Add(1)
	for {
		call, cancel := context.WithTimeout(ctx, ackTimeout)
		check, err := d.rows.Check(call, d.step.ID)
		cancel()
		switch {
		case err == nil && !check.Found:
			d.counts.skipped.Add(1)
			d.log.Info().Msg("step was done already")
			d.complete(ctx)
			return false
		case err == nil:
			d.step.Attempt = max(1, d.step.Attempt-check.Free)
			return true
		}
		d.log.Warn().Err(err).Msg("database does not answer; waiting with the step in hand")
		if !d.wait(ctx, databaseWait) {
			d.release(0)
			return false
		}
	}
}

// wait is a pause. It tells whether to go on: not when the worker is asked to stop.
func (d *delivery) wait(ctx context.Context, pause time.Duration) bool {
	return d.soft.Err() == nil && sleep(ctx, pause)
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
		d.counts.done.Add(1)
		d.log.Debug().Dur("took", time.Since(started)).Msg("step done")
		d.note("done", nil, started)
		d.complete(ctx)
	case errors.Is(err, ErrLeaseLost) || !d.step.Lease.Valid():
		d.log.Warn().Err(err).Msg("step left to the worker that has it now")
	case d.hard.Err() != nil:
		d.log.Warn().Msg("step ended by the stop; given back")
		d.release(0)
	case errors.Is(err, ErrNotStarted):
		d.log.Warn().Err(err).Msg("step not started; given back")
		d.release(d.backoff(1))
	case errors.Is(err, ErrPermanent):
		d.bury("failed for good", err, started)
	case d.step.Attempt >= d.maxAttempts:
		d.bury(fmt.Sprintf("failed %d times", d.step.Attempt), err, started)
	default:
		delay := d.backoff(d.step.Attempt)
		if errors.As(err, &later) {
			delay = min(later.Wait, retryCeiling)
		}
		d.counts.failed.Add(1)
		d.log.Warn().Err(err).Int(logging.Attempt, d.step.Attempt).Dur("again_in", delay).Msg("step failed")
		d.note("failed", err, started)
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

// bury writes a step that is given up on to DEAD, and only then removes it from WORK. Its row stays.
func (d *delivery) bury(reason string, cause error, started time.Time) {
	if err := d.publishDead(d.msg, reason, cause, d.step.Attempt); err != nil {
		d.log.Error().Err(err).Msg("step not written to DEAD; it stays in WORK")
		d.nak(deadRetry)
		return
	}
	d.counts.dead.Add(1)
	d.log.Error().Err(cause).Str("reason", reason).Int(logging.Attempt, d.step.Attempt).Msg("step given up; see `omflow-booster dead show " + d.step.ID.String() + "`")
	d.note("dead", cause, started)
	d.ack()
}

// publishDead copies a message of WORK to DEAD under the same tokens.
func (ds *deliveries) publishDead(msg jetstream.Msg, reason string, cause error, attempt int) error {
	ctx, cancel := context.WithTimeout(context.Background(), ackTimeout)
	defer cancel()
	dead := nats.NewMsg("dead" + strings.TrimPrefix(msg.Subject(), "work"))
	dead.Data = msg.Data()
	for _, h := range []string{bus.HeaderID, bus.HeaderKey, bus.HeaderKind} {
		if v := msg.Headers().Get(h); v != "" {
			dead.Header.Set(h, v)
		}
	}
	setDead(dead.Header, ds.worker, reason, cause, attempt)
	_, err := ds.js.PublishMsg(ctx, dead)
	return err
}

// setDead writes why a step was given up.
func setDead(h nats.Header, worker, reason string, cause error, attempt int) {
	h.Set(bus.HeaderAttempt, strconv.Itoa(attempt))
	h.Set(bus.HeaderDeadReason, bus.HeaderText(reason))
	h.Set(bus.HeaderDeadError, bus.HeaderText(cause.Error()))
	h.Set(bus.HeaderDeadWorker, worker)
	h.Set(bus.HeaderDeadAt, time.Now().UTC().Format(time.RFC3339))
}

// reject moves a message that cannot be read to DEAD, so that it is seen and does not come again.
func (ds *deliveries) reject(msg jetstream.Msg, cause error) {
	ds.log.Error().Err(cause).Str("subject", msg.Subject()).Msg("message cannot be read; moved to DEAD")
	if err := ds.publishDead(msg, "cannot be read", cause, 0); err != nil {
		_ = msg.NakWithDelay(deadRetry)
		return
	}
	ds.counts.dead.Add(1)
	ctx, cancel := context.WithTimeout(context.Background(), ackTimeout)
	defer cancel()
	_ = msg.DoubleAck(ctx) // unconfirmed: it comes again and is moved again, to the same place
}

// ack removes the message from WORK and has it confirmed. An ack that is lost costs a delivery, which finds the row gone.
func (d *delivery) ack() {
	for tries := 0; ; tries++ {
		ctx, cancel := context.WithTimeout(context.Background(), ackTimeout)
		err := d.msg.DoubleAck(ctx)
		cancel()
		if err == nil || errors.Is(err, jetstream.ErrMsgAlreadyAckd) {
			return
		}
		if tries == 2 {
			d.log.Warn().Err(err).Msg("ack not confirmed; the next delivery will find the step done")
			return
		}
	}
}

// nak asks for the next delivery after delay.
func (d *delivery) nak(delay time.Duration) {
	if !d.step.Lease.Valid() {
		return // it has been delivered to another worker; a nak would disturb that one
	}
	nak := d.msg.Nak
	if delay > 0 {
		nak = func() error { return d.msg.NakWithDelay(delay) }
	}
	if err := nak(); err != nil {
		d.log.Warn().Err(err).Msg("nak not sent; the step comes again when its lease ends")
	}
}

// release gives the step back without costing an attempt.
func (d *delivery) release(delay time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), ackTimeout)
	defer cancel()
	if err := d.rows.GiveBack(ctx, d.step.ID); err != nil {
		d.log.Warn().Err(err).Msg("giving the step back costs an attempt")
	}
	d.nak(delay)
}

// giveBack returns a message that arrived when the worker was stopping already.
func (ds *deliveries) giveBack(msg jetstream.Msg) {
	if d, err := ds.open(msg); err == nil {
		d.release(0)
	}
}

// backoff is the wait after the given try: doubling from retryBase, with a fifth of jitter so that a storm spreads.
func (d *delivery) backoff(attempt int) time.Duration {
	wait := d.retryBase
	for range min(attempt-1, 20) {
		wait = min(wait*2, retryCeiling)
	}
	return wait + rand.N(wait/5+1) //nolint:gosec // jitter
}

func (d *delivery) note(outcome string, cause error, started time.Time) {
	try := outbox.Try{
		WorkID: d.step.ID.String(), Kind: d.step.Kind, Flow: d.step.Flow, Ticket: d.step.Key, Worker: d.worker,
		Attempt: d.step.Attempt, Outcome: outcome, Started: started,
	}
	if started.IsZero() {
		try.Started = time.Now()
	} else {
		try.Duration = time.Since(started).Microseconds()
	}
	if cause != nil {
		try.Error = cause.Error()
	}
	d.record(try)
}
