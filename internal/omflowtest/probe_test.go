package omflowtest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
)

func TestLongestGap(t *testing.T) {
	t.Parallel()
	at := func(seconds ...int) (times []time.Time) {
		for _, s := range seconds {
			times = append(times, time.Unix(int64(s), 0))
		}
		return times
	}
	for _, c := range []struct {
		acks        []time.Time
		from, until int
		want        int
	}{
		{at(1, 2, 3, 9, 10), 0, 10, 6},
		{at(1, 2, 3, 9, 10), 5, 10, 6}, // began before
		{at(1, 2, 3, 9, 10), 0, 5, 6},  // ends after
		{at(1, 2, 3), 0, 10, 7},        // still going on
		{at(1, 9, 10, 11), 9, 11, 1},   // what was before does not count
		{nil, 3, 10, 7},
	} {
		got := longestGap(c.acks, time.Unix(int64(c.from), 0), time.Unix(int64(c.until), 0))
		require.Equal(t, time.Duration(c.want)*time.Second, got, "%v", c)
	}
}

// What is measured must be there to be measured: no stream, no write.
func TestProbeNoticesThatWritesStop(t *testing.T) {
	t.Parallel()
	client := bustest.New(t, bustest.Layout()).Client()
	p := NewProbe(client)
	_, err := p.Accepted()
	require.Error(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { defer close(over); p.Run(ctx) }()
	require.Eventually(t, func() bool { return p.AcceptedSince(time.Time{}) }, 10*time.Second, time.Millisecond)
	require.NoError(t, client.JS.DeleteStream(t.Context(), bus.StreamWork))
	require.Eventually(t, func() bool { return p.Failure() != nil }, 10*time.Second, time.Millisecond)
	gone := time.Now() // not before: a write that was acknowledged while the stream was there may be noted a moment later
	require.Eventually(t, func() bool { return p.Gap(gone) > 10*probeEvery }, 10*time.Second, time.Millisecond)
	cancel()
	<-over
	require.False(t, p.AcceptedSince(gone))
	require.Error(t, p.Failure())
	subjects, err := p.Accepted()
	require.NoError(t, err)
	require.NotEmpty(t, subjects)
}
