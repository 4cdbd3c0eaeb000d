package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/work"
)

// Step is one delivery of a queue item to this worker.
type Step struct {
	ID      work.ID
	Attempt int    // from 1; deliveries that were given back unstarted do not count
	Kind    string // name of the queue, for example FormFlow
	Flow    string // flow uuid, or empty
	Ticket  string // ticket, or empty
	Item    work.Item
	Lease   *Lease

	// Put queues follow-up work and returns its identities when it is durable. It fails with ErrLeaseLost once the lease has passed, with
	// ErrUnavailable when nothing was stored, and with ErrUnknown when that is not known.
	Put func(ctx context.Context, items []work.Item) ([]work.ID, error)
	// Follow names follow-up steps instead of Put, just before Execute returns nil. Each has a row that is committed. The worker may run the
	// first of them at once, and publishes the others.
	Follow func(items []work.Item)
}

// Executor runs steps. Implementations: package runner (long-lived child processes) and package httpexec.
type Executor interface {
	// Execute runs one step to its end and returns nil when its effect is in place. It must return soon after ctx ends. An error
	// that matches ErrPermanent is not retried; one that matches ErrNotStarted costs no attempt; ErrDoneBefore and ErrKept are no
	// failures.
	Execute(ctx context.Context, s Step) error
	// Run keeps the executor's own processes and connections until ctx ends, then ends them and returns.
	Run(ctx context.Context) error
	// Ready is closed when the first step can be executed.
	Ready() <-chan struct{}
}

// What an Executor may say about a failed step, by wrapping.
var (
	ErrPermanent  = errors.New("permanent failure")        // trying again cannot help: straight to DEAD
	ErrNotStarted = errors.New("step was not started")     // nothing ran, so no attempt is counted
	ErrDoneBefore = errors.New("step was done already")    // its row was gone: nothing is left to do, and an earlier try has the credit
	ErrKept       = errors.New("step waits for an answer") // its effect is in place, and its row stays until the server has the answer
	ErrLeaseLost  = errors.New("lease of the step ended")  // another worker may be running it: change nothing
)

// RetryAfter is an error that names the earliest time of the next attempt.
type RetryAfter struct {
	Wait time.Duration
	Err  error
}

func (e *RetryAfter) Error() string { return fmt.Sprintf("%s (again in %s)", e.Err, e.Wait) }

// Unwrap returns the failure itself.
func (e *RetryAfter) Unwrap() error { return e.Err }

// Lease is the time until which a step belongs to this worker. The worker extends it; everything that changes
// something on behalf of the step checks it first, so that a host that was frozen and wakes up late changes nothing.
type Lease struct {
	mu       sync.Mutex
	deadline time.Time
	onRenew  []func(deadline time.Time)
}

// NewLease returns a lease that ends at deadline, which should come from time.Now.
func NewLease(deadline time.Time) *Lease { return &Lease{deadline: deadline} }

// Deadline is when the lease ends unless it is renewed.
func (l *Lease) Deadline() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deadline
}

// Valid tells whether the step still belongs to this worker, by both clocks: the monotonic one is not misled when somebody sets the time,
// the wall clock goes on while a machine is suspended.
func (l *Lease) Valid() bool {
	now, deadline := time.Now(), l.Deadline()
	return now.Before(deadline) && now.Round(0).Before(deadline.Round(0))
}

// OnRenew calls f with the new deadline at every renewal, in the renewing goroutine.
func (l *Lease) OnRenew(f func(deadline time.Time)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onRenew = append(l.onRenew, f)
}

// Renew moves the deadline and tells those who asked to know. The worker calls it once the Booster has answered a renewal.
func (l *Lease) Renew(deadline time.Time) {
	l.mu.Lock()
	l.deadline = deadline
	calls := l.onRenew
	l.mu.Unlock()
	for _, f := range calls {
		f(deadline)
	}
}

// end makes the lease a thing of the past.
func (l *Lease) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deadline = time.Time{}
}
