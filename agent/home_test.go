package agent

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// linked makes the node's home a link to a release, and prepares a second release with the same files.
func linked(t *testing.T, n *node) (use func(release string)) {
	t.Helper()
	first, releases := n.cfg.Home, t.TempDir()
	require.NoError(t, os.CopyFS(filepath.Join(releases, "2"), os.DirFS(first)))
	require.NoError(t, os.Rename(first, filepath.Join(releases, "1")))
	n.cfg.Home = filepath.Join(releases, "current")
	use = func(release string) {
		next := n.cfg.Home + ".next"
		require.NoError(t, os.Symlink(release, next))
		require.NoError(t, os.Rename(next, n.cfg.Home))
	}
	use("1")
	return use
}

func TestHomeThatIsALinkIsWatched(t *testing.T) {
	t.Parallel()
	n := newWatchingNode(t, newBus(t), "srv1")
	n.cfg.Watch, n.cfg.WatchEvery = watchReport, time.Hour // the kernel alone tells
	linked(t, n)
	n.start()
	n.drift(undrifted)
	n.eventually(func() bool { // until it watches
		n.write("omflow/app.py", time.Now().String())
		for range 20 { // it has to rest
			if n.drift(func(bus.Drift) bool { return true }).Total == 1 {
				return true
			}
			bus.Sleep(t.Context(), n.cfg.WatchQuiet/3)
		}
		return false
	}, "the change is noticed")
	bus.Sleep(t.Context(), 10*n.cfg.WatchQuiet) // it looks by itself until all has rested, and then no more
	n.write("omflow/later.py", "")
	n.drift(func(d bus.Drift) bool { return d.Total == 2 })
}

// A link that is switched under the agent: it goes on with neither release until somebody starts it anew, and says so.
func TestLinkIsSwitchedUnderTheAgent(t *testing.T) {
	t.Parallel()
	n := newWatchingNode(t, newBus(t), "srv1")
	n.cfg.Watch = watchReport
	use := linked(t, n)
	n.start()
	n.drift(undrifted)
	use("2")
	s := n.state(func(s bus.AgentState) bool { return strings.HasPrefix(s.PatchState, bus.PatchesStopped) })
	require.Contains(t, s.PatchState, filepath.Join(filepath.Dir(n.cfg.Home), "1")+" and is "+filepath.Join(filepath.Dir(n.cfg.Home), "2")+
		" now")
	require.Equal(t, "running", s.Server, "its users are served")
	a := publish(t, n.client, map[string]string{"omflow/app.py": "v1"}, patch.Options{})
	require.NoError(t, os.WriteFile(filepath.Join(n.cfg.Home, "marker"), nil, 0o600))
	seen := n.count("server-start")
	for range 3 { // rounds
		n.state(func(s bus.AgentState) bool { return strings.HasPrefix(s.PatchState, bus.PatchesStopped) })
		bus.Sleep(t.Context(), n.cfg.PatchEvery)
	}
	for _, release := range []string{"1", "2"} {
		app, err := os.ReadFile(filepath.Join(filepath.Dir(n.cfg.Home), release, "omflow/app.py"))
		require.NoError(t, err)
		require.Equal(t, "v0", string(app), release)
	}
	require.Equal(t, seen, n.count("server-start"))

	n.stop()
	n.start() // with the new one
	n.report(a.ID, patch.StateApplied)
	require.Equal(t, "v1", n.read("omflow/app.py"))
	d := n.drift(func(d bus.Drift) bool { return d.Total == 1 })
	require.Equal(t, []bus.DriftFile{{Path: "marker", Kind: "added"}}, d.Files, "what the new release has more is a change that was made here")

	require.NoError(t, os.Rename(n.cfg.Home, n.cfg.Home+".away"))
	s = n.state(func(s bus.AgentState) bool { return strings.HasPrefix(s.PatchState, bus.PatchesStopped) })
	require.Contains(t, s.PatchState, "no such file")
	require.NoError(t, os.Rename(n.cfg.Home+".away", n.cfg.Home))
	n.state(func(s bus.AgentState) bool { return s.PatchState == "current" })
}

// A patch that was interrupted in one release must not be taken back in another one.
func TestLinkIsSwitchedInTheMiddleOfAPatch(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	use := linked(t, n)
	home, err := openHome(n.cfg.Home)
	require.NoError(t, err)
	t.Cleanup(func() { _ = home.Close() })
	data, err := os.OpenRoot(n.cfg.DataDir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = data.Close() })
	j, err := patch.Open(home.Root, data, nil)
	require.NoError(t, err)
	name, _ := artifact(t, map[string]string{"omflow/new.py": "new"}, patch.Options{})
	in, err := os.Open(name)
	require.NoError(t, err)
	t.Cleanup(func() { _ = in.Close() })
	require.NoError(t, j.Stage(in, patch.DefaultLimit, patch.Report{}))
	require.NoError(t, j.Switch())
	use("2")
	n.write("omflow/new.py", "the second release has it, too")
	n.agent, err = New(n.cfg, Deps{Client: n.client}, zerolog.Nop())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	require.ErrorContains(t, n.agent.Run(ctx), "interrupted in "+home.Name())
	require.Equal(t, "the second release has it, too", n.read("omflow/new.py"))
}
