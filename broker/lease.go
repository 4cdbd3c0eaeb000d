package broker

import (
	"context"
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

// holdLease keeps the lease while this Booster leads, until ctx ends. It gives it back at once when leadership moves.
func (b *Broker) holdLease(ctx context.Context) {
	lock := bus.Lock{JS: b.js, Name: bus.LockActive, Holder: b.name(), TTL: leaseTTL, Candidate: b.leads}
	for ctx.Err() == nil {
		_ = lock.Run(ctx, func(held context.Context) error { // it fails as the lock does: the next round waits for it again
			b.lease.Store(&held)
			defer b.lease.Store(nil)
			b.log.Info().Msg("active")
			for b.leads() && bus.Sleep(held, leaseWatch) {
			}
			b.log.Info().Bool("leads", b.leads()).Msg("no longer active")
			return nil
		})
	}
}

// leads tells whether this Booster leads WORK, as far as it knows. A single one always does.
func (b *Broker) leads() bool {
	return b.cfg.mode() == modeStandalone || b.server.JetStreamIsStreamLeader("$G", bus.StreamWork)
}

// active tells whether this Booster leads WORK and no other one can be active at this moment.
func (b *Broker) active() bool {
	if b.cfg.mode() == modeStandalone {
		return true
	}
	lease := b.lease.Load()
	return lease != nil && bus.Trusted(*lease) && b.leads()
}
