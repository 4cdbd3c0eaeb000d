package batch_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/leaktest"
	"github.com/omflow-booster/omflow-booster/worker/batch"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestCallsWaitingForABatchShareTheNext(t *testing.T) {
	t.Parallel()
	var batches []int
	gate := make(chan struct{})
	g := batch.New(10, func(_ context.Context, in []int) ([]int, error) {
		batches = append(batches, len(in))
		<-gate
		out := make([]int, len(in))
		for i, n := range in {
			out[i] = n * n
		}
		return out, nil
	})
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { defer close(over); g.Run(ctx, 1) }()
	var calls sync.WaitGroup
	for n := range 25 {
		calls.Go(func() {
			got, err := g.Do(t.Context(), n)
			require.NoError(t, err)
			require.Equal(t, n*n, got)
		})
	}
	close(gate)
	calls.Wait()
	stop()
	<-over
	total := 0
	for _, n := range batches {
		require.LessOrEqual(t, n, 10)
		total += n
	}
	require.Equal(t, 25, total)
	require.Less(t, len(batches), 25, "calls share batches")
}

func TestErrorsReachEveryCallOfTheBatchAndClosedIsSaid(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	g := batch.New(5, func(context.Context, []int) ([]int, error) { return nil, broken })
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() { defer close(over); g.Run(ctx, 2) }()
	_, err := g.Do(t.Context(), 1)
	require.ErrorIs(t, err, broken)
	stop()
	<-over
	_, err = g.Do(t.Context(), 1)
	require.ErrorIs(t, err, batch.ErrClosed)
}
