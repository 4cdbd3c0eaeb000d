package snapshot

import (
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
)

// peakHeap watches how much of the heap is in use until the function that it returns is called.
func peakHeap() func() float64 {
	var peak atomic.Uint64
	stop, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak.Store(max(peak.Load(), m.HeapInuse))
			}
		}
	}()
	return func() float64 { close(stop); <-over; return float64(peak.Load()) / (1 << 20) }
}

// BenchmarkLargeQueue takes and restores 100,000 waiting steps of 600 bytes. The heap is that of client and server together.
func BenchmarkLargeQueue(b *testing.B) {
	source := bustest.New(b, bustest.Layout()).Client()
	for i := range 10 {
		publish(b, source.JS, string(rune('a'+i)), 10_000, 600)
	}
	for range b.N {
		dir := b.TempDir()
		runtime.GC()
		heap, began := peakHeap(), time.Now()
		m, err := Take(b.Context(), source.JS, dir, TakeOptions{})
		require.NoError(b, err)
		b.ReportMetric(time.Since(began).Seconds(), "take-s")
		b.ReportMetric(heap(), "take-heap-MiB")
		began = time.Now()
		out := b.TempDir() + "/x"
		size, err := Pack(b.Context(), dir, out, false)
		require.NoError(b, err)
		b.ReportMetric(time.Since(began).Seconds(), "pack-s")
		b.ReportMetric(float64(size)/(1<<20), "file-MiB")
		unpacked := int64(0)
		for _, s := range m.Streams {
			unpacked += s.Size
		}
		b.ReportMetric(float64(unpacked)/(1<<20), "dir-MiB")
		target := bustest.New(b, bustest.Layout()).Client()
		src, err := OpenFile(out)
		require.NoError(b, err)
		began = time.Now()
		require.NoError(b, src.Verify())
		b.ReportMetric(time.Since(began).Seconds(), "verify-s")
		runtime.GC()
		heap, began = peakHeap(), time.Now()
		_, err = Restore(b.Context(), target.JS, src, RestoreOptions{})
		require.NoError(b, err)
		b.ReportMetric(time.Since(began).Seconds(), "restore-s")
		b.ReportMetric(heap(), "restore-heap-MiB")
		require.NoError(b, src.Close())
		work, err := target.JS.Stream(b.Context(), bus.StreamWork)
		require.NoError(b, err)
		require.EqualValues(b, 100_000, work.CachedInfo().State.Msgs)
		require.NoError(b, os.RemoveAll(dir))
	}
}
