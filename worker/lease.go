package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

const (
	renewRetry  = time.Second
	errLeaseMsg = "lease lost: this worker or its Booster stood still for too long, or the Booster lost its queue"
)

// keeper renews the leases of all steps that are here: those that run, those that wait for a slot, and those whose end is not confirmed.
//
// Each renewal is confirmed on its own. One confirmation for all would be wrong while the leadership of the consumer moves: the first half
// of a round may have gone to a Booster that leads it no more, and the last one to its successor. A round is a few messages every quarter
// of the lease, and only for steps that take so long.
type keeper struct {
	confirms *confirms
	queue    *queue

	mu   sync.Mutex
	kept map[*message]*kept
}

// kept is one lease.
type kept struct {
	renewAt time.Time
	asking  bool
	cancel  context.CancelCauseFunc // of the step that runs; nil: none does
}

func newKeeper(c *confirms, q *queue) *keeper {
	return &keeper{confirms: c, queue: q, kept: map[*message]*kept{}}
}

// keep renews the lease of m at a quarter of it, until forget.
func (k *keeper) keep(m *message) {
	lease := k.queue.leaseTime()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept[m] = &kept{renewAt: m.lease.Deadline().Add(-lease + lease/4)}
}

// running has the step's context ended with ErrLeaseLost when its lease ends, or when the Booster turns out to have another queue. No
// cancel says that the step does not run any more.
func (k *keeper) running(m *message, cancel context.CancelCauseFunc) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l := k.kept[m]; l != nil {
		l.cancel = cancel
	} else if cancel != nil {
		cancel(ErrLeaseLost) // it ended while the step waited for its slot
	}
}

func (k *keeper) forget(m *message) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.kept, m)
}

// run looks at all leases until ctx ends. hard ends when running steps must end.
func (k *keeper) run(ctx, hard context.Context) {
	for bus.Sleep(ctx, min(tendEvery, max(k.queue.leaseTime()/32, time.Millisecond))) {
		now := time.Now()
		k.confirms.tend(now, hard.Err() != nil)
		for _, m := range k.due(now) {
			k.renew(m, now)
		}
	}
}

// due ends the leases that are over and returns those that are to be renewed.
func (k *keeper) due(now time.Time) (renew []*message) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for m, l := range k.kept {
		switch {
		case m.isLost() || !m.lease.Valid():
			delete(k.kept, m)
			m.lease.end()
			if l.cancel != nil {
				m.log.Warn().Msg(errLeaseMsg)
				l.cancel(ErrLeaseLost)
			}
		case !l.asking && !now.Before(l.renewAt):
			l.asking = true
			renew = append(renew, m)
		}
	}
	return renew
}

// renew asks for more time. The new lease counts from before the request, and from no request but the one that was confirmed.
func (k *keeper) renew(m *message, began time.Time) {
	k.confirms.send(&verb{m: m, text: verbRenew, until: m.lease.Deadline(), once: true, over: func(err error) {
		lease := k.queue.leaseTime()
		k.mu.Lock()
		defer k.mu.Unlock()
		l := k.kept[m]
		switch {
		case l == nil: // ended meanwhile
		case err == nil:
			m.lease.Renew(began.Add(lease))
			l.renewAt, l.asking = time.Now().Add(lease/4), false
		default:
			l.renewAt, l.asking = time.Now().Add(min(renewRetry, lease/8)), false
		}
	}})
}

// isLost tells whether the queue that the message came from is gone.
func (m *message) isLost() bool {
	select {
	case <-m.lost:
		return true
	default:
		return false
	}
}

// pauseOrLost waits. It returns false when ctx ends or the queue is another one.
func (m *message) pauseOrLost(ctx context.Context, wait time.Duration) bool {
	t := time.NewTimer(max(wait, 0))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-m.lost:
		return false
	case <-t.C:
		return true
	}
}

// retryWhileLeased does what must be done while the step is ours, again and again: a Booster that restarts is back within seconds, and
// what was decided must not be forgotten because of it.
//
// Only the lease that the step has now counts: an ack that the Booster carried out before it died is never answered, while renewals of a
// delivery that it does not know are, so with renewals this would hold its slot for ever.
func (m *message) retryWhileLeased(what string, do func(ctx context.Context) error) error {
	until := m.lease.Deadline()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), ackTimeout)
		err := do(ctx)
		cancel()
		if err == nil {
			return nil
		}
		if bus.IsFull(err) {
			return fmt.Errorf("%s: %w", what, err) // it may stay so for long, and the slot is for other steps meanwhile
		}
		if !m.lease.Valid() || time.Now().After(until) || m.hard.Err() != nil || errors.Is(err, ErrLeaseLost) ||
			errors.Is(err, nats.ErrConnectionClosed) {
			return fmt.Errorf("%s: %w", what, err)
		}
		if !m.pauseOrLost(context.Background(), sendAckEvery) {
			return fmt.Errorf("%s: %w", what, ErrLeaseLost)
		}
	}
}
