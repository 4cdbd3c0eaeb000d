package supervise

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

// A service that is killed takes its children with it; what survives that, its next life ends before it starts anything.
func TestKilledServiceLeavesNothingRunningTwice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	life := func() (kill func()) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), roleVar+"=parent", dirVar+"="+dir)
		cmd.Stderr = os.Stderr
		require.NoError(t, cmd.Start())
		return func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	kill := life()
	t.Cleanup(func() {
		require.NoError(t, EndLeftovers(context.Background(), dir, 0, zerolog.Nop()))
	})
	eventually(t, func() bool {
		return len(notes(t, dir, "good started")) == 1 && len(notes(t, dir, "stubborn started")) == 1
	}, "first life")
	first, orphan := notes(t, dir, "good started")[0], notes(t, dir, "stubborn started")[0]
	kill()
	eventually(t, func() bool { return !alive(first) }, "child dies with its parent")
	require.Len(t, notes(t, dir, "good asked to end"), 1, "softly")
	require.True(t, alive(orphan), "a grandchild that ignores the signal survives")

	kill = life()
	defer kill()
	eventually(t, func() bool { return len(notes(t, dir, "stubborn started")) == 2 }, "second life")
	require.False(t, alive(orphan), "before the second life starts anything, the rest of the first has ended")
}

func TestLeftoversOfOthersAreLeftAlone(t *testing.T) {
	t.Parallel()
	c, dir, _ := supervised(t, "good", func(s *Spec) { s.Env = Mark(s.Env, "other owner") })
	c.Start()
	eventually(t, func() bool { return len(notes(t, dir, "good started")) == 1 }, "child runs")
	require.NoError(t, EndLeftovers(t.Context(), "other", time.Second, zerolog.Nop()))
	require.True(t, alive(notes(t, dir, "good started")[0]))
	require.Empty(t, notes(t, dir, "good asked to end"))
}
