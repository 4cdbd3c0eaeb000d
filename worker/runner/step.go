package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/process"
	"github.com/omflow-booster/omflow-booster/internal/work"
	"github.com/omflow-booster/omflow-booster/worker"
)

const (
	leaseCheck    = time.Second    // how late a suspended machine sees that a lease has passed
	maxRetryAfter = 24 * time.Hour // longer waits are cut to this
	maxErrorText  = 4 << 10        // bytes of a runner's error that are kept
)

// Why a step was cut off, as the cause of its context.
var (
	errLeasePassed = errors.New("lease passed")
	errStepTimeout = errors.New("step timeout")
)

// conversation is one step in one runner.
type conversation struct {
	id    string
	in    chan message  // what the runner says about this step
	ended chan struct{} // nobody listens to in any more
}

// deliver hands over what the runner said, or returns false if the step is over.
func (c *conversation) deliver(m message) bool {
	select {
	case c.in <- m:
		return true
	case <-c.ended:
		return false
	}
}

// execute runs a step and tells whether the runner may be used again. One goroutine, this one, decides everything;
// what could block it (a runner that neither reads nor answers) is ended by killing the runner when ctx ends.
func (r *child) execute(ctx context.Context, s worker.Step, limit time.Duration) (keep bool, err error) {
	ctx, cancel := guard(ctx, s.Lease, limit)
	defer cancel()

	renewed := make(chan struct{}, 1)
	s.Lease.OnRenew(func(time.Time) { // before the deadline is read for the first time, or a renewal could be missed
		select {
		case renewed <- struct{}{}:
		default:
		}
	})
	line, err := encode(runMessage{opRun, s.ID.String(), s.Attempt, s.Ticket, s.Lease.Deadline().UnixMilli(), s.Item.Lean(), s.Follow != nil})
	if err != nil {
		return true, fmt.Errorf("%w: the item cannot be written as JSON: %w", worker.ErrPermanent, err)
	}
	if ctx.Err() != nil {
		return true, fmt.Errorf("%w: %w", worker.ErrNotStarted, cutOff(ctx, s.Lease, limit))
	}

	c := &conversation{id: s.ID.String(), in: make(chan message), ended: make(chan struct{})}
	defer close(c.ended)
	r.tail.Reset()
	r.step.Store(c)
	disarm := context.AfterFunc(ctx, r.kill)
	defer func() { keep = disarm() && keep }()

	if n, err := r.send(line); err != nil {
		if n > 0 && ctx.Err() == nil {
			// It ended over this very step: an item that a runner dies of must not come again for ever.
			return false, fmt.Errorf("%s ended when it had read %d of %d bytes of the step: %w", r.name, n, len(line), err)
		}
		// A line without its newline is no message, so the runner cannot have begun.
		return false, fmt.Errorf("%w: %s does not read: %w", worker.ErrNotStarted, r.name, err)
	}
	return r.converse(ctx, s, c, renewed, limit)
}

// converse answers the runner until the step is over.
func (r *child) converse(ctx context.Context, s worker.Step, c *conversation, renewed <-chan struct{}, limit time.Duration) (bool, error) {
	var (
		in      = c.in // nil while a put is under way: one at a time, in order, and never overtaken by done
		answers = make(chan any, 1)
		over    = ctx.Done()
		giveUp  <-chan time.Time
	)
	for {
		select {
		case m := <-in:
			switch m.Op {
			case opPut:
				in = nil
				go func() { answers <- put(ctx, s, m) }()
			case opDone:
				r.answered.Store(true)
				follow(ctx, s, m)
				return !m.Recycle, success(m)
			case opFailed:
				r.answered.Store(true)
				return !m.Recycle, failure(m)
			}
		case answer := <-answers:
			in = c.in
			select {
			case <-renewed: // first, so that the runner goes on with the newest deadline
				r.sendOne(renewal(s))
			default:
			}
			r.sendOne(answer)
		case <-renewed:
			r.sendOne(renewal(s))
		case <-r.gone:
			if in == nil {
				<-answers // bounded by ctx; what the runner committed is worth publishing
			}
			return false, r.death(ctx, s.Lease, limit)
		case <-over: // the runner is being killed
			over, giveUp = nil, time.After(killWait)
		case <-giveUp:
			return false, fmt.Errorf("%w; %s hangs in the kernel", cutOff(ctx, s.Lease, limit), r.name)
		}
	}
}

// sendOne sends a message in a step. A failure needs no handling: the runner is about to be gone.
func (r *child) sendOne(m any) {
	if line, err := encode(m); err == nil {
		_, _ = r.send(line)
	}
}

func renewal(s worker.Step) renewMessage {
	return renewMessage{opRenew, s.ID.String(), s.Lease.Deadline().UnixMilli()}
}

// put queues the follow-up work that a runner asks for, and returns the answer.
func put(ctx context.Context, s worker.Step, m message) any {
	refuse := func(err error) any {
		return refusedMessage{opRefused, m.ID, m.N, oneLine(err.Error())}
	}
	items, names, err := readItems(m)
	if err != nil {
		return refuse(err)
	}
	if len(items) > 0 {
		ids, err := s.Put(ctx, items)
		if err != nil {
			return refuse(err)
		}
		for i := range names {
			if names[i] == "" {
				names[i], ids = ids[0].String(), ids[1:]
			}
		}
	}
	return storedMessage{opStored, m.ID, m.N, names}
}

// readItems reads the items of a message, and names those that are not to be published: the reconciler says what is wrong with their rows.
func readItems(m message) (items []work.Item, names []string, err error) {
	items, names = make([]work.Item, 0, len(m.Items)), make([]string, len(m.Items))
	for i, raw := range m.Items {
		it, err := work.Parse(raw)
		row := work.RowOf(raw)
		switch {
		case err == nil:
			items = append(items, it)
		case row > 0:
			names[i] = work.ID{Source: work.Queue, Row: row}.String()
		default:
			return nil, nil, fmt.Errorf("item %d: %w", i, err)
		}
	}
	return items, names, nil
}

// follow hands over the follow-up steps of a done message. After a step that is not simply done, and when this runner is about to end,
// none begins here at once: they are published.
func follow(ctx context.Context, s worker.Step, m message) {
	items, _, err := readItems(m)
	switch {
	case err != nil || len(items) == 0:
	case s.Follow == nil || m.Recycle || m.Skipped || m.Kept:
		_, _ = s.Put(ctx, items) // their rows are committed: the reconciler publishes them
	default:
		s.Follow(items)
	}
}

// success is what a done message says.
func success(m message) error {
	switch {
	case m.Skipped:
		return worker.ErrDoneBefore
	case m.Kept:
		return worker.ErrKept
	default:
		return nil
	}
}

// failure is the error of a failed message.
func failure(m message) error {
	text := oneLine(m.Error)
	if text == "" {
		text = "the runner gave no reason"
	}
	err := errors.New(text)
	if m.Uncounted {
		err = fmt.Errorf("%w: %s", worker.ErrNotStarted, text)
	}
	switch {
	case m.Permanent:
		return fmt.Errorf("%w: %s", worker.ErrPermanent, text)
	case m.RetryAfterMS > 0:
		wait := time.Duration(min(m.RetryAfterMS, maxRetryAfter.Milliseconds())) * time.Millisecond
		return &worker.RetryAfter{Wait: wait, Err: err}
	default:
		return err
	}
}

// guard derives the context of a step: it ends with ctx, after limit, or when the lease has passed.
func guard(ctx context.Context, lease *worker.Lease, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cut := context.WithCancelCause(ctx)
	ctx, stop := context.WithTimeoutCause(ctx, limit, errStepTimeout)
	var watch sync.WaitGroup
	watch.Go(func() {
		timer := time.NewTimer(0)
		defer timer.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
			if !lease.Valid() {
				cut(errLeasePassed)
				return
			}
			// Looked at often and by the wall clock, because timers stand still while a machine is suspended.
			timer.Reset(min(time.Until(lease.Deadline()), leaseCheck))
		}
	})
	return ctx, func() {
		stop()
		cut(nil)
		watch.Wait()
	}
}

// death is the error of a step whose runner is gone.
func (r *child) death(ctx context.Context, lease *worker.Lease, limit time.Duration) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w; %s was killed%s", cutOff(ctx, lease, limit), r.name, r.lastWords())
	case r.isStopping():
		return fmt.Errorf("%s was stopped in the step: %w", r.name, context.Canceled)
	default:
		return fmt.Errorf("died in the step: %w", r.end())
	}
}

// cutOff says why the context of a step has ended.
func cutOff(ctx context.Context, lease *worker.Lease, limit time.Duration) error {
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, errStepTimeout):
		return fmt.Errorf("the step ran longer than %s (WORKER_STEP_TIMEOUT)", limit)
	case errors.Is(cause, errLeasePassed), !lease.Valid(): // the worker also cancels when it passes
		return fmt.Errorf("%w at %s", worker.ErrLeaseLost, lease.Deadline().Format(time.RFC3339Nano))
	default:
		return fmt.Errorf("the step was cancelled: %w", cause)
	}
}

// oneLine makes text of a runner fit for a header and a log.
func oneLine(s string) string { return process.Cut(strings.Join(strings.Fields(s), " "), maxErrorText) }
