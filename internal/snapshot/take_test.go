package snapshot

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

func TestTakeLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	c := fresh(t).Client()
	publish(t, c.JS, "q", 5000, 600)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := Take(ctx, c.JS, dir, TakeOptions{Progress: func(p Progress) {
		if p.Stream == bus.StreamWork && p.Done > 0 {
			cancel()
		}
	}})
	require.ErrorIs(t, err, context.Canceled)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)

	require.NoError(t, os.MkdirAll(filepath.Join(dir, streamsDir, "of a Take that was killed"), 0o700))
	_, err = OpenDir(dir)
	require.ErrorIs(t, err, ErrInvalid)
	m, err := Take(t.Context(), c.JS, dir, TakeOptions{})
	require.NoError(t, err)
	require.NoError(t, opened(t, dir).Verify())
	messages, bytes := m.Totals()
	require.EqualValues(t, 5000, messages)
	require.Greater(t, bytes, uint64(5000*600))
	_, err = Take(t.Context(), c.JS, dir, TakeOptions{})
	require.ErrorContains(t, err, "holds a snapshot already")
}

// The server is started again in the middle; the stream is taken from its beginning.
func TestBoosterRestartsDuringATake(t *testing.T) {
	t.Parallel()
	b := fresh(t)
	c := b.Client()
	publish(t, c.JS, "q", 400, 60_000)
	stopped := 0
	dir := t.TempDir()
	_, err := Take(t.Context(), c.JS, dir, TakeOptions{Progress: func(p Progress) {
		if p.Stream == bus.StreamWork && p.Done > 1<<20 && stopped == 0 {
			stopped++
			b.Stop()
			b.Start()
		}
	}})
	require.NoError(t, err)
	require.Equal(t, 1, stopped)
	src := opened(t, dir)
	require.NoError(t, src.Verify())
	messages, _ := src.Manifest().Totals()
	require.EqualValues(t, 400, messages)
}

func TestBoosterStopsDuringATake(t *testing.T) {
	t.Parallel()
	b := fresh(t)
	c, err := bus.Dial(b.Config(), t.Name()) // as a command does: it gives up
	require.NoError(t, err)
	defer c.Close()
	publish(t, c.JS, "q", 400, 60_000)
	dir := t.TempDir()
	began := time.Now()
	var once sync.Once
	_, err = Take(t.Context(), c.JS, dir, TakeOptions{Progress: func(p Progress) {
		if p.Stream == bus.StreamWork && p.Done > 1<<20 {
			once.Do(b.Stop)
		}
	}})
	require.Error(t, err)
	require.Less(t, time.Since(began), timeout)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

// While steps are published and done, a snapshot has every step that was there when it began and was not done when it ended, each once.
func TestTakeUnderLoad(t *testing.T) {
	t.Parallel()
	c := fresh(t).Client()
	publish(t, c.JS, "q", 1500, 600)
	before := map[string]bool{}
	for _, m := range see(t, c.JS)[bus.StreamWork].Messages {
		before[m.Subject] = true
	}
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var mu sync.Mutex
	done := map[string]bool{}
	var published atomic.Int64
	load.Go(func() {
		pace := time.NewTicker(time.Millisecond)
		defer pace.Stop()
		for ctx.Err() == nil {
			<-pace.C
			_, _ = c.JS.PublishMsg(ctx, &nats.Msg{
				Subject: bus.WorkSubject("k", "f", "new"+time.Now().Format("150405.000000000")),
				Data:    make([]byte, 300),
			})
			published.Add(1)
		}
	})
	workers, err := c.JS.Consumer(ctx, bus.StreamWork, bus.ConsumerWorkers)
	require.NoError(t, err)
	load.Go(func() {
		for ctx.Err() == nil {
			m, err := workers.Next(jetstream.FetchMaxWait(time.Second))
			if err != nil {
				continue
			}
			mu.Lock()
			done[m.Subject()] = true // as soon as it may be
			mu.Unlock()
			_ = m.DoubleAck(context.WithoutCancel(ctx))
		}
	})
	require.Eventually(t, func() bool { return published.Load() > 50 }, timeout, time.Millisecond)
	for range 3 {
		dir, m := taken(t, c.JS)
		mu.Lock()
		must := map[string]bool{}
		for subject := range before {
			if !done[subject] {
				must[subject] = true
			}
		}
		mu.Unlock()
		after := fresh(t).Client()
		restored, err := Restore(t.Context(), after.JS, opened(t, dir), RestoreOptions{})
		require.NoError(t, err)
		for _, r := range restored {
			require.False(t, r.InUse)
		}
		now := see(t, after.JS)[bus.StreamWork]
		have := map[string]int{}
		for _, m := range now.Messages {
			have[m.Subject]++
		}
		for subject := range must {
			require.Equal(t, 1, have[subject], subject)
		}
		for _, s := range m.Streams {
			if s.Name == bus.StreamWork {
				require.Len(t, have, int(s.Messages))
			}
		}
		// And every one of them can still be done.
		w, err := after.JS.Consumer(t.Context(), bus.StreamWork, bus.ConsumerWorkers)
		require.NoError(t, err)
		for len(have) > 0 {
			m, err := w.Next(jetstream.FetchMaxWait(timeout))
			require.NoError(t, err, "%d steps are never delivered", len(have))
			require.NoError(t, m.DoubleAck(t.Context()))
			delete(have, m.Subject())
		}
	}
	stop()
	load.Wait()
}
