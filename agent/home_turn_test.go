package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

// The link is switched while a patch waits for its turn. Neither release is patched when the turn comes, and the agent gives the turn back.
func TestLinkIsSwitchedWhileAPatchWaits(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	use := linked(t, n)
	name, m := artifact(t, map[string]string{"omflow/app.py": "v1"}, patch.Options{})
	require.NoError(t, rollout.Pause(t.Context(), n.client.JS, m.ID, "ann", ""))
	republish(t, n.client, name)
	n.start()
	n.eventually(func() bool { return n.count("worker-start") == 1 }, "worker runs")
	n.state(func(s bus.AgentState) bool { return s.PatchNext == m.ID })
	use("2")
	require.NoError(t, rollout.Resume(t.Context(), n.client.JS, m.ID, "ann"))
	n.state(func(s bus.AgentState) bool {
		return strings.HasPrefix(s.PatchState, bus.PatchesStopped) && strings.Contains(s.PatchState, "is another directory") && s.PatchNext == ""
	})
	releases := filepath.Dir(n.cfg.Home)
	for _, release := range []string{"1", "2"} {
		app, err := os.ReadFile(filepath.Join(releases, release, "omflow/app.py"))
		require.NoError(t, err)
		require.Equal(t, "v0", string(app), release)
	}
	require.Equal(t, 1, n.count("server-start"), "its users are served")
	require.Contains(t, n.report(m.ID, patch.StateRetrying).Error, "is "+filepath.Join(releases, "2")+" now")

	use("1")
	n.report(m.ID, patch.StateApplied)
	require.Equal(t, "v1", n.read("omflow/app.py"))
}
