package worker

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bustest"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

// The lease of a step counts from the request. A request that stays open for longer than the lease, which somebody has made
// shorter since, brings steps that are over already.
func TestRequestFollowsAChangedLease(t *testing.T) {
	t.Parallel()
	nc := bustest.New(t, bustest.Layout()).Client().NC
	var lease atomic.Int64
	lease.Store(int64(time.Minute))
	p := newPuller(nc, 1, func() time.Duration { return time.Duration(lease.Load()) })
	p.log, p.usable = zerolog.Nop(), func() bool { return true }
	lease.Store(int64(300 * time.Millisecond))
	p.ask()
	testkit.Eventually(t, "the request is over", func() bool {
		select {
		case msg := <-p.arrived:
			p.read(msg)
		default:
		}
		for _, r := range p.requests {
			require.Less(t, r.expiry, pullExpiry/2)
			return r.left == 0
		}
		return false
	})
}
