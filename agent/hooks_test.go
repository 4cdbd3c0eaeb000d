package agent

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

var bothHooks = patch.Hooks{Pip: "req.txt", Migrate: true}

// running starts a node and waits for server and worker.
func running(t *testing.T, b *bustest.Bus, name string) *node {
	t.Helper()
	n := newNode(t, b, name)
	n.start()
	n.eventually(func() bool { return n.count("worker-start") == 1 }, "worker runs")
	return n
}

// hooked publishes version v1 with hooks and some more empty files.
func (n *node) hooked(hooks patch.Hooks, more ...string) string {
	n.t.Helper()
	files := map[string]string{"omflow/app.py": "v1", "req.txt": "x==1"}
	for _, name := range more {
		files[name] = ""
	}
	return publish(n.t, n.client, files, patch.Options{Hooks: hooks}).ID
}

func (n *node) plan(id string) rollout.Plan {
	n.t.Helper()
	p, ok, err := rollout.Read(context.Background(), n.client.JS, id)
	require.NoError(n.t, err)
	require.True(n.t, ok)
	return p
}

func TestHooksRunBeforeTheServer(t *testing.T) {
	t.Parallel()
	n := running(t, newBus(t), "srv1")
	id := n.hooked(bothHooks)
	n.report(id, patch.StateApplied)
	n.eventually(func() bool { return n.count("worker-start") == 2 }, "worker runs again")
	require.Equal(t, []string{
		"worker-drains", "worker-stop", "server-stop", "pip-start", "pip-end", "migrate-start", "migrate-end", "server-start", "server-healthy",
		"worker-start",
	}, n.sequence()[3:])
	require.Equal(t, "-m pip install --no-input --disable-pip-version-check -r req.txt", n.events()[6].detail)
	require.Equal(t, "manage.py migrate --noinput", n.events()[8].detail)
	m := n.plan(id).Migration
	require.Equal(t, "srv1", m.Node)
	require.False(t, m.Done.IsZero())
}

// Whatever goes wrong with a hook: the old version comes back, and the report says which hook it was and what it said.
func TestHookThatFailsTakesThePatchBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		more  []string
		spoil func(n *node)
		says  []string
		never string // what is not run
	}{
		"pip fails":     {[]string{"pip-fails"}, nil, []string{"hook pip: exit status 3: pip is at it / no such table"}, "migrate-start"},
		"migrate fails": {[]string{"migrate-fails"}, nil, []string{"hook migrate: exit status 3: migrate is at it / no such table"}, ""},
		"pip hangs": {
			[]string{"pip-hangs"},
			func(n *node) { n.cfg.HookTimeout = 5 * time.Second },
			[]string{"hook pip: not through within AGENT_HOOK_TIMEOUT (5s): pip is at it"},
			"migrate-start",
		},
		"migrate hangs": {
			[]string{"migrate-hangs"},
			func(n *node) { n.cfg.HookTimeout = 5 * time.Second },
			[]string{"hook migrate: not through within AGENT_HOOK_TIMEOUT (5s): migrate is at it"},
			"",
		},
		"no Python": {
			nil, func(n *node) { n.cfg.Python = "no-such-python" },
			[]string{"hook pip: start pip:", "no-such-python", "not found"},
			"pip-start",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, newBus(t), "srv1")
			if c.spoil != nil {
				c.spoil(n)
			}
			n.start()
			id := n.hooked(bothHooks, c.more...)
			r := n.report(id, patch.StateRolledBack)
			for _, part := range c.says {
				require.Contains(t, r.Error, part)
			}
			n.state(func(s bus.AgentState) bool { return s.Server == "running" && s.Worker == "running" })
			require.Equal(t, "v0", n.read("omflow/app.py"))
			require.NoFileExists(t, filepath.Join(n.cfg.Home, "req.txt"))
			require.Equal(t, []string{"v0", "v0"}, n.served(), "no server ran on the new version")
			require.True(t, n.plan(id).Migration.Done.IsZero())
			if c.never != "" {
				require.Zero(t, n.count(c.never))
			}
		})
	}
}

// The database is migrated by one of the servers, whoever is first.
func TestDatabaseIsMigratedOnce(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	nodes := []*node{running(t, b, "srv1"), running(t, b, "srv2"), running(t, b, "srv3")}
	id := nodes[0].hooked(bothHooks)
	migrated, installed := 0, 0
	for _, n := range nodes {
		n.report(id, patch.StateApplied)
		migrated += n.count("migrate-start")
		installed += n.count("pip-end")
	}
	require.Equal(t, 1, migrated)
	require.Equal(t, 3, installed, "what pip brings is needed everywhere")
}

// What is in the database is not taken back with the patch, so the next server does not do it again.
func TestMigrationOutlivesARollback(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	one, two := newNode(t, b, "srv1"), newNode(t, b, "srv2")
	two.start()
	two.eventually(func() bool { return two.count("worker-start") == 1 }, "it was there before the patch")
	two.idle()
	two.stop()
	one.cfg.HealthTimeout = time.Second
	one.start()
	id := one.hooked(patch.Hooks{Migrate: true}, "broken")
	require.Contains(t, one.report(id, patch.StateRolledBack).Error, "not healthy")
	require.Equal(t, 1, one.count("migrate-end"))

	two.cfg.HealthTimeout = time.Second
	two.start()
	two.report(id, patch.StateRolledBack)
	require.Zero(t, two.count("migrate-start"))
	require.Equal(t, "srv1", two.plan(id).Migration.Node)
}

// A stop of the agent does not wait for a hook; the next life runs it again.
func TestAgentThatIsStoppedInAHook(t *testing.T) {
	t.Parallel()
	n := running(t, newBus(t), "srv1")
	n.write("migrate-hangs", "")
	id := n.hooked(bothHooks)
	n.eventually(func() bool { return n.count("migrate-start") == 1 }, "hook runs")
	n.stop()
	require.Equal(t, 1, n.count("migrate-cut"))
	require.Equal(t, []string{"v0"}, n.served())
	require.NoError(t, os.Remove(filepath.Join(n.cfg.Home, "migrate-hangs")))
	n.start()
	require.Equal(t, "v1", n.served()[1])
	n.report(id, patch.StateApplied)
	require.Equal(t, 2, n.count("migrate-start"))
	require.Equal(t, 1, n.count("migrate-end"))
}

// Only what the patch concerns is restarted, also when files cannot be put into place.
func TestWhatAPatchRestarts(t *testing.T) {
	t.Parallel()
	restarted := map[string][]string{
		patch.RestartNone:    nil,
		patch.RestartRunners: {"worker-drains", "worker-stop", "worker-start"},
		patch.RestartServer:  {"worker-drains", "worker-stop", "server-stop", "server-start", "server-healthy", "worker-start"},
	}
	for restart, want := range restarted {
		t.Run(restart, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, newBus(t), "srv1")
			broken := &brokenDisk{op: "switch rename", file: "app.py"}
			n.beforeDisk = broken.before
			n.start()
			n.eventually(func() bool { return n.count("worker-start") == 1 }, "worker runs")
			pid := n.state(func(s bus.AgentState) bool { return s.Server == "running" }).ServerPID

			n.report(n.hooked(patch.Hooks{Restart: restart}), patch.StateApplied)
			settled := func(s bus.AgentState) bool {
				return s.Server == "running" && s.Worker == "running" && s.PatchState == "current" && s.PatchNext == ""
			}
			s := n.state(settled)
			require.Equal(t, restart != patch.RestartServer, s.ServerPID == pid)
			n.eventually(func() bool { return slices.Equal(want, n.sequence()[3:]) }, strings.Join(want, " "))
			require.Equal(t, "v1", n.read("omflow/app.py"))

			broken.left.Store(1)
			second := publish(t, n.client, map[string]string{"omflow/app.py": "v2"}, patch.Options{Hooks: patch.Hooks{Restart: restart}})
			n.report(second.ID, patch.StateApplied)
			n.state(settled)
			require.Equal(t, "v2", n.read("omflow/app.py"))
			served := []string{"v0"}
			if restart == patch.RestartServer {
				served = []string{"v0", "v1", "v1", "v2"}
			}
			require.Equal(t, served, n.served())
			if restart == patch.RestartNone {
				require.Len(t, n.sequence(), 3)
			}
		})
	}
}

// A server that did not take well to files under its feet is restarted on the old ones.
func TestServerThatIsNotHealthyAfterItsRunnersWereRestarted(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	n.cfg.HealthTimeout = time.Second
	n.start()
	n.eventually(func() bool { return n.count("worker-start") == 1 }, "worker runs")
	n.write("sick", "")
	id := n.hooked(patch.Hooks{Restart: patch.RestartRunners})
	require.Contains(t, n.report(id, patch.StateRolledBack).Error, "the OMFLOW Server was not healthy within 1s")
	require.Equal(t, "v0", n.read("omflow/app.py"))
	require.Equal(t, []string{"v0", "v0"}, n.served())
}
