package rollout

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
)

const migrates = "20260101-000000001-m"

// migrate has a node migrate within limit.
func migrate(ctx context.Context, c *bus.Client, node string, limit time.Duration,
	run func(ctx context.Context) error,
) (by string, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	t := Turn{JS: c.JS, Patch: migrates, Node: node, Every: 50 * time.Millisecond}
	return t.Migrate(ctx, 0, func(string) {}, run)
}

// However many nodes are at it, and however often the coordinator and operators write the same plan.
func TestOneNodeMigrates(t *testing.T) {
	t.Parallel()
	b := bustest.New(t, bustest.Layout())
	require.NoError(t, Create(t.Context(), b.Client().JS, migrates, one()))
	var runs atomic.Int32
	var all sync.WaitGroup
	by := make([]string, 5)
	for i := range by {
		c := b.Client()
		all.Go(func() {
			var err error
			by[i], err = migrate(t.Context(), c, fmt.Sprint("srv", i), timeout, func(ctx context.Context) error {
				runs.Add(1)
				if err := Pause(ctx, c.JS, migrates, "ann", "in between"); err != nil {
					return err
				}
				return Resume(ctx, c.JS, migrates, "ann")
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 1, runs.Load())
	p, _, err := Read(t.Context(), b.Client().JS, migrates)
	require.NoError(t, err)
	require.False(t, p.Migration.Done.IsZero())
	for _, node := range by {
		require.Equal(t, p.Migration.Node, node, "everybody knows who it was")
	}
}

// One that fails leaves it to the next at once; one that is cut off keeps it, for its next life, until its time is over.
func TestMigrationThatDoesNotSucceed(t *testing.T) {
	t.Parallel()
	c := bustest.New(t, bustest.Layout()).Client()
	broken := errors.New("no such table")
	_, err := migrate(t.Context(), c, "srv1", timeout, func(context.Context) error { return broken })
	require.ErrorIs(t, err, broken)

	began, ctx := make(chan struct{}), t.Context()
	ctx, stop := context.WithCancel(ctx)
	go func() { <-began; stop() }()
	_, err = migrate(ctx, c, "srv2", 2*time.Second, func(ctx context.Context) error {
		close(began)
		<-ctx.Done()
		return ctx.Err()
	})
	require.ErrorIs(t, err, context.Canceled)

	_, err = migrate(t.Context(), c, "srv3", 100*time.Millisecond, func(context.Context) error { return errors.New("srv2 may be at it") })
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotContains(t, err.Error(), "srv2 may be at it")
	by, err := migrate(t.Context(), c, "srv3", timeout, func(context.Context) error { return nil })
	require.NoError(t, err)
	require.Equal(t, "srv3", by)
	by, err = migrate(t.Context(), c, "srv2", timeout, func(context.Context) error { return errors.New("it is done") })
	require.NoError(t, err)
	require.Equal(t, "srv3", by)
}

// A node that does not know whether somebody migrates does nothing.
func TestNoMigrationWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	b := bustest.New(t, bustest.Layout())
	c := b.Client()
	b.Stop()
	_, err := migrate(t.Context(), c, "srv1", time.Second, func(context.Context) error { return errors.New("it ran") })
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotContains(t, err.Error(), "it ran")

	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	ran, back := false, sync.OnceFunc(b.Start)
	turn := Turn{JS: c.JS, Patch: migrates, Node: "srv1", Every: 50 * time.Millisecond}
	_, err = turn.Migrate(ctx, 0, func(string) { back() }, func(context.Context) error { ran = true; return nil })
	require.NoError(t, err)
	require.True(t, ran)
}
