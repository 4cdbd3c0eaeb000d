package agent

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// An agent that is killed takes server and worker with it, and the next one starts one of each.
func TestKilledAgentTakesItsChildrenDown(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	cmd := n.startProcess()
	n.eventually(func() bool { return n.count("worker-start") == 1 }, "worker runs")
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()

	n.start() // at once: it waits for what is still ending
	n.eventually(func() bool { return n.count("worker-start") == 2 }, "worker runs again")
	running := map[string]int{}
	for _, e := range n.events() {
		kind, what, _ := strings.Cut(e.what, "-")
		switch what {
		case "start":
			running[kind]++
		case "stop":
			running[kind]--
		}
		require.LessOrEqual(t, running[kind], 1, "two at once: %s", kind)
	}
	require.Equal(t, map[string]int{"server": 1, "worker": 1}, running)
}

// startProcess starts the agent as a process of its own, which can be killed.
func (n *node) startProcess(env ...string) *exec.Cmd {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*timeout) // whoever waits for it does not wait for ever
	n.t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0], "agent")
	cmd.Env = append(os.Environ(), "OMFLOW_HOME="+n.cfg.Home, "OMFLOW_COMMAND="+n.cfg.Command, "OMFLOW_HEALTH_URL="+n.cfg.HealthURL,
		"AGENT_DATA_DIR="+n.cfg.DataDir, "BOOSTER_PORT="+strconv.Itoa(n.cfg.Port), "AGENT_HEALTH_INTERVAL=20ms", "AGENT_SETTLE=40ms",
		"OMFLOW_PYTHON="+n.cfg.Python, "AGENT_HOOK_TIMEOUT="+n.cfg.HookTimeout.String(),
		"AGENT_HEALTH_TIMEOUT="+n.cfg.HealthTimeout.String(), "AGENT_PATCH_INTERVAL="+n.cfg.PatchEvery.String(),
		"AGENT_NAME="+n.cfg.Name, "BOOSTER_JOIN_FILE="+n.cfg.JoinFile,
		"TEST_WORKER="+os.Args[0]+" worker "+n.dir)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = os.Stderr
	require.NoError(n.t, cmd.Start())
	n.t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

// A new host whose agent is killed while its home is filled gets it whole from the next one, and no server runs before.
func TestAgentKilledWhileItFillsTheHome(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	one := newWatchingNode(t, b, "srv1")
	one.cfg.Provision = provisionSettings
	for _, name := range []string{"first", "second", "deep/third"} {
		one.write("omflow/"+name+".py", "1")
	}
	one.start()
	one.drift(undrifted)
	for i, at := range []string{
		"stage write:2", "journal switching rename:1", "switch rename:3", "journal switched sync directory:1", "journal proven rename:1",
		"journal end:1",
	} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			n := newBareNode(t, b, "new"+strconv.Itoa(i))
			first := n.startProcess("TEST_KILL_AT=" + at)
			require.EqualError(t, first.Wait(), "signal: killed")
			require.Zero(t, n.count("server-start"))
			n.start()
			n.eventually(func() bool { return n.count("worker-start") == 1 }, "new server works")
			require.Equal(t, []string{"server-start", "server-healthy", "worker-start"}, n.sequence())
			want := one.drift(undrifted).Baseline
			n.drift(func(d bus.Drift) bool { return d.Baseline == want && d.Total == 0 })
			require.Equal(t, "mine alone", n.read("omflow/settings.py"))
		})
	}
}

// An agent that is killed while it brings a patch in, or takes one back, leaves a home that its successor brings into one version
// before a server runs on it; what it then reports is true.
func TestAgentKilledWhileItPatches(t *testing.T) {
	t.Parallel()
	for at, ends := range map[string]string{
		"stage write:2":                     patch.StateApplied, // by the second life
		"back up link:2":                    patch.StateApplied,
		"switch rename:3":                   patch.StateApplied,
		"switch delete:1":                   patch.StateApplied,
		"journal switched sync directory:1": patch.StateApplied,
		"journal proven rename:1":           patch.StateApplied,
		"forget backup:2":                   patch.StateApplied,
		"journal end:1":                     patch.StateApplied,
		"journal restoring rename:1":        patch.StateRolledBack,
		"restore rename:3":                  patch.StateRolledBack,
		"restore remove:1":                  patch.StateRolledBack,
	} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			n := newPatchedNode(t, newBus(t))
			var broken []string
			if ends == patch.StateRolledBack {
				broken = []string{"broken"}
			} else {
				n.cfg.HealthTimeout = timeout
			}
			files, o := nextVersion(broken...)
			a := publish(t, n.client, files, o)
			first := n.startProcess("TEST_KILL_AT=" + at)
			died := make(chan error, 1)
			go func() { died <- first.Wait() }()
			select {
			case err := <-died:
				require.EqualError(t, err, "signal: killed")
			case <-time.After(2 * timeout):
				t.Fatal("the agent did not come to it")
			}

			n.start()
			n.report(a.ID, ends)
			n.state(func(s bus.AgentState) bool { return s.Server == "running" && s.Worker == "running" })
			want := map[string]string{patch.StateApplied: "v1", patch.StateRolledBack: "v0"}[ends]
			n.eventually(func() bool { return n.served()[len(n.served())-1] == want }, "server runs with "+want)
			require.Equal(t, want, n.isWhole())
		})
	}
}

// That the server runs while the files change makes no difference to that.
func TestAgentKilledWhileItPatchesARunningServer(t *testing.T) {
	t.Parallel()
	for _, restart := range []string{patch.RestartNone, patch.RestartRunners} {
		for _, at := range []string{"switch rename:2", "journal switched sync directory:1", "journal proven rename:1"} {
			t.Run(restart+" "+at, func(t *testing.T) {
				t.Parallel()
				n := newPatchedNode(t, newBus(t))
				n.cfg.HealthTimeout = timeout
				files, o := nextVersion()
				o.Hooks.Restart = restart
				a := publish(t, n.client, files, o)
				first := n.startProcess("TEST_KILL_AT=" + at)
				require.EqualError(t, first.Wait(), "signal: killed")

				n.start()
				n.report(a.ID, patch.StateApplied)
				n.state(func(s bus.AgentState) bool { return s.Server == "running" && s.Worker == "running" })
				require.Equal(t, "v1", n.isWhole())
			})
		}
	}
}

// An agent that is killed in the middle of a hook takes it down, and the next life runs all hooks again before the server starts.
func TestAgentKilledInAHook(t *testing.T) {
	t.Parallel()
	for _, hook := range []string{"pip", "migrate"} {
		t.Run(hook, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, newBus(t), "srv1")
			n.write(hook+"-hangs", "")
			a := publish(t, n.client, map[string]string{"omflow/app.py": "v1", "req.txt": "x==1"},
				patch.Options{Hooks: patch.Hooks{Pip: "req.txt", Migrate: true}})
			first := n.startProcess()
			n.eventually(func() bool { return n.count(hook+"-start") == 1 }, "hook runs")
			require.NoError(t, first.Process.Kill())
			_ = first.Wait()
			n.eventually(func() bool { return n.count(hook+"-cut") == 1 }, "the hook dies with the agent")
			require.NoError(t, os.Remove(filepath.Join(n.cfg.Home, hook+"-hangs")))

			n.start()
			n.report(a.ID, patch.StateApplied)
			words := n.sequence()
			require.Equal(t, []string{"pip-start", "pip-end", "migrate-start", "migrate-end", "server-start"},
				words[len(words)-slices.Index(reversed(words), "pip-start")-1:][:5])
			require.Equal(t, []string{"v0", "v1"}, n.served())
		})
	}
}

// A server whose agent was killed while it migrated keeps its turn, and nobody else migrates meanwhile.
func TestTurnOfAnAgentThatIsKilledInAHook(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	one := newNode(t, b, "srv1")
	one.write("pip-hangs", "")
	id := one.hooked(patch.Hooks{Pip: "req.txt", Migrate: true})
	first := one.startProcess()
	one.eventually(func() bool { return one.count("pip-start") == 1 }, "hook runs")
	two := running(t, b, "srv2")
	require.NoError(t, first.Process.Kill())
	_ = first.Wait()
	second := one.startProcess() // it is in the hook from its start to its end
	one.eventually(func() bool { return one.count("pip-start") == 2 }, "hook runs again")
	beats, err := one.client.JS.KeyValue(t.Context(), bus.BucketNodes)
	require.NoError(t, err)
	watch, err := beats.Watch(t.Context(), "agent.srv1", jetstream.UpdatesOnly())
	require.NoError(t, err)
	for range 4 { // as many as would end the turn of one that does not wait for it any more
		<-watch.Updates()
	}
	require.NoError(t, watch.Stop())
	require.True(t, one.plan(id).Open("srv1"))
	require.Zero(t, two.count("pip-start"))

	require.NoError(t, os.Remove(filepath.Join(one.cfg.Home, "pip-hangs")))
	one.report(id, patch.StateApplied)
	two.report(id, patch.StateApplied)
	require.Equal(t, 1, one.count("migrate-end")+two.count("migrate-end"))
	require.NoError(t, second.Process.Signal(syscall.SIGTERM))
	_ = second.Wait()
}

func reversed(words []string) []string {
	words = slices.Clone(words)
	slices.Reverse(words)
	return words
}
