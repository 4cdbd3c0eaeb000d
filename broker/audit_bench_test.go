package broker

import (
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// BenchmarkReadContents is what one member reads for the comparison of 100,000 waiting steps of 600 bytes. It rests as long in between.
func BenchmarkReadContents(b *testing.B) {
	const messages = 100_000
	opts := nodeOptions("bench", b.TempDir(), Sync{Interval: time.Second})
	opts.Host, opts.Port = "127.0.0.1", -1
	n, err := startNode(b.Context(), opts, zerolog.Nop())
	require.NoError(b, err)
	defer n.stop()
	require.NoError(b, bus.Ensure(b.Context(), n.js, bus.Layout{StoreBytes: 1 << 30, Replicas: 1, Lease: time.Minute}))
	for i := range messages {
		_, err := n.js.PublishAsync(bus.WorkSubject("k", "f", strconv.Itoa(i)), make([]byte, 600), jetstream.WithStallWait(timeout))
		require.NoError(b, err)
	}
	<-n.js.PublishAsyncComplete()
	store, err := localStore(n.server, bus.StreamWork)
	require.NoError(b, err)
	var longest time.Duration
	for b.Loop() {
		read := 0
		for from := uint64(1); from != 0; {
			began := time.Now()
			c, next, err := readContents(store, from, from+contentSpan)
			require.NoError(b, err)
			longest = max(longest, time.Since(began))
			read += len(c)
			from = next
		}
		require.Equal(b, messages, read)
	}
	b.ReportMetric(float64(longest.Milliseconds()), "ms/longest-window")
}
