package worker

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
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
			return !r.open
		}
		return false
	})
}

// A request that brought its steps ends with a status, too. That is no refusal, after which the worker would wait, and it ends no other
// request.
func TestFilledRequestIsNoRefusal(t *testing.T) {
	t.Parallel()
	js := bustest.New(t, bustest.Layout()).Client().JS
	p := newPuller(js.Conn(), 1, func() time.Duration { return time.Minute })
	came := 0
	p.log, p.usable = zerolog.Nop(), func() bool { return true }
	p.open = func(*nats.Msg, time.Time) (*delivery, bool) { came++; return nil, false }
	for i := range 3 {
		_, err := js.Publish(t.Context(), bus.WorkSubject("FormFlow", "f", "q"+strconv.Itoa(i+1)), []byte("{}"))
		require.NoError(t, err)
	}
	for i := range 3 {
		p.ask()
		require.Len(t, p.requests, 1, "one inbox for one request after the other")
		testkit.Eventually(t, "the request is over", func() bool {
			select {
			case msg := <-p.arrived:
				p.read(msg)
			default:
			}
			for _, r := range p.requests {
				return !r.open
			}
			return false
		})
		require.Equal(t, i+1, came)
		require.Zero(t, p.paused, "nothing was refused")
	}
}
