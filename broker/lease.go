package broker

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// Raft alone does not keep two Boosters from believing that they are active. A leader that is cut off, or was frozen, goes on
// leading for up to 20 s in its own eyes, while the others elect after 4 to 9 s. What it writes then is never acknowledged, so
// the queue is safe; what only one may *do*, such as directing a rollout, is not. Hence active is who leads WORK and holds the
// lease, a lock of CONTROL, which ends before another can begin.
const (
	leaseTTL   = 6 * time.Second // a Booster is active no later than after the longest election
	leaseWatch = 20 * time.Millisecond
)

// activeLease is the active lease, as far as this Booster holds it.
type activeLease struct {
	cluster *cluster
	held    atomic.Pointer[context.Context] // while this Booster holds it
}

func newActiveLease(c *cluster) *activeLease { return &activeLease{cluster: c} }

// run keeps the lease while this Booster leads, until ctx ends. It releases the lease at once when leadership moves.
func (l *activeLease) run(ctx context.Context) {
	c := l.cluster
	lock := bus.Lock{JS: c.node.js, Name: bus.LockActive, Holder: c.name, TTL: leaseTTL, Candidate: c.leads}
	for ctx.Err() == nil {
		_ = lock.Run(ctx, func(held context.Context) error { // it fails as the lock does: the next round waits for it again
			l.held.Store(&held)
			defer l.held.Store(nil)
			c.log.Info().Msg("active")
			for c.leads() && bus.Sleep(held, leaseWatch) {
			}
			c.log.Info().Bool("leads", c.leads()).Msg("no longer active")
			return nil
		})
	}
}

// active tells whether this Booster leads WORK and no other one can be active at this moment.
func (l *activeLease) active() bool {
	if l.cluster.single {
		return true
	}
	held := l.held.Load()
	return held != nil && bus.Trusted(*held) && l.cluster.leads()
}

// duty is active or standby.
func (l *activeLease) duty() string {
	if l.active() {
		return bus.DutyActive
	}
	return bus.DutyStandby
}
