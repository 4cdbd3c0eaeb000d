package supervise

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/testkit"
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
	testkit.Eventually(t, "first life", func() bool {
		return len(notes(t, dir, "good started")) == 1 && len(notes(t, dir, "stubborn started")) == 1
	})
	first, orphan := notes(t, dir, "good started")[0], notes(t, dir, "stubborn started")[0]
	kill()
	testkit.Eventually(t, "child dies with its parent", func() bool { return !alive(first) })
	require.Len(t, notes(t, dir, "good asked to end"), 1, "softly")
	require.True(t, alive(orphan), "a grandchild that ignores the signal survives")

	kill = life()
	defer kill()
	testkit.Eventually(t, "second life", func() bool { return len(notes(t, dir, "stubborn started")) == 2 })
	require.False(t, alive(orphan), "before the second life starts anything, the rest of the first has ended")
}

func TestLeftoversOfOthersAreLeftAlone(t *testing.T) {
	t.Parallel()
	c, dir, _ := supervised(t, "good", func(s *Spec) { s.Owner = "other owner" })
	c.Start()
	testkit.Eventually(t, "child runs", func() bool { return len(notes(t, dir, "good started")) == 1 })
	require.NoError(t, EndLeftovers(t.Context(), "other", time.Second, zerolog.Nop()))
	require.True(t, alive(notes(t, dir, "good started")[0]))
	require.Empty(t, notes(t, dir, "good asked to end"))
}

// A process that has left the group of its child ends with it all the same: it would answer in the name of the child's successor.
func TestWhatLeftTheGroupEndsWithTheChild(t *testing.T) {
	t.Parallel()
	c, dir, _ := supervised(t, "leaver", func(s *Spec) { s.Owner = s.Dir })
	c.Start()
	testkit.Eventually(t, "both run", func() bool {
		return len(notes(t, dir, "good started")) == 1 && len(notes(t, dir, "leaver started")) == 1
	})
	require.NoError(t, c.Stop(t.Context()))
	require.False(t, alive(notes(t, dir, "good started")[0]))
	require.Len(t, notes(t, dir, "good asked to end"), 1, "softly")
}

// A server that becomes a daemon cannot be supervised. Each start ends the one before it, and the error says what to do.
func TestChildThatBecomesADaemonIsNamed(t *testing.T) {
	t.Parallel()
	c, dir, _ := supervised(t, "daemon", func(s *Spec) { s.Owner = s.Dir })
	c.Start()
	testkit.Eventually(t, "it is started again", func() bool { return c.Status().Restarts >= 1 })
	require.Contains(t, c.Status().Error, "left 1 processes running in the background")
	require.Contains(t, c.Status().Error, "must stay in the foreground")
	require.NoError(t, c.Stop(t.Context()))
	for _, pid := range notes(t, dir, "good started") {
		require.False(t, alive(pid))
	}
}
