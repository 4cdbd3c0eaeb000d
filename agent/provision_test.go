package agent

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// newBareNode is a host on which nothing but the agent is installed.
func newBareNode(t *testing.T, b *bustest.Bus, name string) *node {
	t.Helper()
	n := newWatchingNode(t, b, name)
	require.NoError(t, os.RemoveAll(n.cfg.Home))
	require.NoError(t, os.Mkdir(n.cfg.Home, 0o755))
	return n
}

func TestNewHostGetsTheFilesOfAnotherServer(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	one := newWatchingNode(t, b, "srv1")
	one.cfg.Provision = provisionSettings
	one.write(patch.VersionFile, "version=1.1.4.0\n")
	one.write("logs/x", "noise")
	one.start()
	one.drift(undrifted)
	first := publish(t, one.client, map[string]string{"omflow/app.py": "v1", "omflow/new/b.py": "b"}, patch.Options{})
	one.report(first.ID, patch.StateApplied)

	fresh := newBareNode(t, b, "srv2")
	fresh.start()
	fresh.eventually(func() bool { return fresh.count("worker-start") == 1 }, "new server works")
	require.Equal(t, []string{"server-start", "server-healthy", "worker-start"}, fresh.sequence())
	require.Equal(t, "v1", fresh.read("omflow/app.py"))
	require.Equal(t, "b", fresh.read("omflow/new/b.py"))
	require.Equal(t, "mine alone", fresh.read("omflow/settings.py"), "it works on the same database")
	require.NoFileExists(t, filepath.Join(fresh.cfg.Home, "logs/x"))
	want := one.drift(undrifted).Baseline
	fresh.drift(func(d bus.Drift) bool { return d.Baseline == want && d.Total == 0 })

	// From then on it is a server like the others: what it has is not brought again, what comes is.
	second := publish(t, one.client, map[string]string{"omflow/app.py": "v2"}, patch.Options{})
	require.EqualValues(t, 2, fresh.report(second.ID, patch.StateApplied).Seq)
	require.Equal(t, 2, fresh.count("server-start"))
	require.Equal(t, "v2", fresh.read("omflow/app.py"))
	list, err := patch.Reports(t.Context(), one.client.JS)
	require.NoError(t, err)
	require.Len(t, list[first.ID], 1, "the new one never applied it")

	third := newBareNode(t, b, "srv3") // with what is there now
	third.start()
	third.eventually(func() bool { return third.count("worker-start") == 1 }, "new server works")
	require.Equal(t, "v2", third.read("omflow/app.py"))
}

func TestSettingsThatAreThereAlreadyAreKept(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	one := newWatchingNode(t, b, "srv1")
	one.start()
	fresh := newBareNode(t, b, "srv2")
	fresh.write(patch.SettingsFile, "its own")
	fresh.start()
	fresh.eventually(func() bool { return fresh.count("worker-start") == 1 }, "new server works")
	require.Equal(t, "its own", fresh.read(patch.SettingsFile))
	require.Equal(t, "v0", fresh.read("omflow/app.py"))
}

// Who answers on the bus is not known before the signature of his artifact is checked. Until then nothing outside of the agent's own
// directory is touched.
func TestGiftWithAnIDThatIsAPath(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	fresh := newBareNode(t, b, "srv1")
	victim := filepath.Join(filepath.Dir(fresh.cfg.DataDir), "victim.tar.zst")
	require.NoError(t, os.WriteFile(victim, []byte("kept"), 0o600))
	answer := func(subject string, with any) {
		data, err := json.Marshal(with)
		require.NoError(t, err)
		sub, err := fresh.client.NC.Subscribe(subject, func(m *nats.Msg) { _ = m.Respond(data) })
		require.NoError(t, err)
		t.Cleanup(func() { _ = sub.Unsubscribe() })
	}
	artifact, err := json.Marshal(patch.Announcement{
		ID: "../../victim", StoredArtifact: patch.StoredArtifact{Object: "x", Size: 4, SHA256: strings.Repeat("0", 64)},
	})
	require.NoError(t, err)
	answer(bus.HomeSubject, bus.HomeOffer{Node: "evil", Seq: 7, Files: 1, Settings: bus.SettingsNone})
	answer(bus.TransferSubject("evil"), bus.HomeTransfer{Seq: 7, Artifact: artifact})
	fresh.start()
	fresh.state(func(s bus.AgentState) bool { return strings.Contains(s.PatchState, `names the id "../../victim"`) })
	require.FileExists(t, victim)
}

func TestNewHostWaitsForAServer(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	fresh := newBareNode(t, b, "srv1")
	fresh.start()
	s := fresh.state(func(s bus.AgentState) bool { return s.PatchState == stateWaiting+errNoHome.Error() })
	require.Equal(t, "none", s.Server)
	require.Zero(t, fresh.count("server-start"))
	other := newWatchingNode(t, b, "srv2")
	other.cfg.Provision = provisionSettings
	other.start()
	fresh.eventually(func() bool { return fresh.count("worker-start") == 1 }, "new server works")
	require.Equal(t, "v0", fresh.read("omflow/app.py"))
}

// Nothing is given by who may not sign, does not want to, or was changed by hand.
func TestWhoDoesNotGive(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	key, err := ours()
	require.NoError(t, err)
	unsigned, unwilling, drifted := newWatchingNode(t, b, "srv1"), newWatchingNode(t, b, "srv2"), newWatchingNode(t, b, "srv3")
	unsigned.cfg.JoinFile = joinFile(t, key)
	unwilling.cfg.Provision = "off"
	drifted.cfg.Watch, drifted.cfg.Provision = watchReport, provisionSettings
	for _, n := range []*node{unsigned, unwilling, drifted} {
		n.start()
		n.drift(undrifted)
	}
	drifted.write("omflow/app.py", "by hand")
	drifted.drift(func(d bus.Drift) bool { return d.Total == 1 })
	fresh := newBareNode(t, b, "srv4")
	fresh.start()
	drifted.write("omflow/app.py", "v0")
	fresh.eventually(func() bool { return fresh.count("worker-start") == 1 }, "new server works")
	require.Equal(t, "v0", fresh.read("omflow/app.py"))
}

// A home that is suddenly nearly empty is a disk that is gone, and nothing that others should follow.
func TestLostFilesAreNotSpread(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	n := newWatchingNode(t, b, "srv1")
	for i := range 100 {
		n.write(fmt.Sprintf("omflow/f%d.py", i), "x")
	}
	n.start()
	n.drift(undrifted)
	n.stop()
	require.NoError(t, os.RemoveAll(n.cfg.Home))
	require.NoError(t, os.Mkdir(n.cfg.Home, 0o755))
	n.start()
	n.drift(func(d bus.Drift) bool { return d.Total == 101 })
	n.write("omflow/app.py", "back")
	n.drift(func(d bus.Drift) bool { return d.Total == 101 && d.Files[0].Kind == "changed" })
	bus.Sleep(t.Context(), 4*n.cfg.WatchQuiet)
	published(t, n, 0)
}
