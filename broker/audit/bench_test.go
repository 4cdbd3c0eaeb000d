package audit

import (
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// BenchmarkReadContents is what one member reads for the comparison of 100,000 waiting steps of 600 bytes. It rests as long in between.
func BenchmarkReadContents(b *testing.B) {
	const messages = 100_000
	run := startServer(b, b.TempDir())
	c := dial(b, run)
	require.NoError(b, bus.Ensure(b.Context(), c.JS, bus.Layout{StoreBytes: 1 << 30, Replicas: 1, Lease: time.Minute}))
	for i := range messages {
		_, err := c.JS.PublishAsync(bus.WorkSubject("k", "f", strconv.Itoa(i)), make([]byte, 600), jetstream.WithStallWait(timeout))
		require.NoError(b, err)
	}
	<-c.JS.PublishAsyncComplete()
	store, err := localStore(run, bus.StreamWork)
	require.NoError(b, err)
	var longest time.Duration
	for b.Loop() {
		read := 0
		for from := uint64(1); from != 0; {
			began := time.Now()
			found, next, err := readContents(store, from, from+contentSpan)
			require.NoError(b, err)
			longest = max(longest, time.Since(began))
			read += len(found)
			from = next
		}
		require.Equal(b, messages, read)
	}
	b.ReportMetric(float64(longest.Milliseconds()), "ms/longest-window")
}
