package worker

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
)

// The lease of a step counts from the request. A request that stays open for longer than the lease, which somebody has made
// shorter since, brings steps that are over already.
func TestRequestFollowsAChangedLease(t *testing.T) {
	t.Parallel()
	consumer, err := bustest.New(t, bustest.Layout()).Client().JS.Consumer(t.Context(), bus.StreamWork, bus.ConsumerWorkers)
	require.NoError(t, err)
	var lease atomic.Int64
	lease.Store(int64(time.Minute))
	p := newPuller(consumer, 1, func() time.Duration { return time.Duration(lease.Load()) })
	p.log = zerolog.Nop()
	lease.Store(int64(300 * time.Millisecond))
	began := time.Now()
	p.request(t.Context(), p.take(t.Context()))
	require.Less(t, time.Since(began), pullExpiry/2)
}
