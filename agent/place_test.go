package agent

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// rebuild takes everything away that the Booster had, as the loss of its disk does.
func rebuild(t *testing.T, b *bustest.Bus, n *node) {
	t.Helper()
	b.Stop()
	b.Wipe()
	b.Start()
	require.NoError(t, n.client.WaitReady(t.Context()))
}

// The order of patches is that of the stream. What a clock says of one neither hides it nor anything that follows.
func TestPatchesAfterARebuildFollowTheStreamAndNoClock(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	n := newNode(t, b, "srv1")
	n.start()
	one, m1 := artifact(t, map[string]string{"omflow/app.py": "v1"}, patch.Options{})
	future, m2 := artifact(t, map[string]string{"omflow/app.py": "v2"}, patch.Options{Now: time.Now().AddDate(10, 0, 0)})
	republish(t, n.client, one)
	republish(t, n.client, future)
	first := n.report(m1.ID, patch.StateApplied)
	n.report(m2.ID, patch.StateApplied)

	rebuild(t, b, n)
	republish(t, n.client, one)
	republish(t, n.client, future)
	slow := publish(t, n.client, map[string]string{"omflow/app.py": "v3"}, patch.Options{Now: time.Now().Add(-time.Hour)})
	n.report(slow.ID, patch.StateApplied)
	require.Equal(t, "v3", n.read("omflow/app.py"))
	require.Equal(t, first, n.report(m1.ID, patch.StateApplied), "known patches are reported again, and not applied")
	require.Equal(t, []string{"v0", "v1", "v2", "v3"}, n.served())
}

// Ways back are kept by the order of the patches here, so one that is dated in the future does not push out the others.
func TestWaysBackAreKeptByOrder(t *testing.T) {
	t.Parallel()
	n := newWatchingNode(t, newBus(t), "srv1")
	n.cfg.Command, n.cfg.HealthURL, n.cfg.Worker = "", "", "off"
	n.start()
	n.drift(undrifted)
	for i := range revertsKept {
		a := publish(t, n.client, map[string]string{"omflow/app.py": strings.Repeat("f", i+1)}, patch.Options{Now: time.Now().AddDate(10, 0, i)})
		n.report(a.ID, patch.StateApplied)
	}
	now := publish(t, n.client, map[string]string{"omflow/app.py": "now"}, patch.Options{})
	n.report(now.ID, patch.StateApplied)
	offer, err := n.client.NC.Request(bus.RevertSubject, []byte(now.ID), timeout)
	require.NoError(t, err)
	require.Contains(t, string(offer.Data), `"files":1`)
}

// forgets takes the ledger and all else away that the agent has written, as a new data directory does.
func (n *node) forgets() { n.cfg.DataDir = n.t.TempDir() }

// A home that is current is not taken through all patches again because its agent has lost its ledger.
func TestHomeThatIsCurrentIsNotPatchedFromTheBeginning(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	one, two := newWatchingNode(t, b, "srv1"), newWatchingNode(t, b, "srv2")
	for _, n := range []*node{one, two} {
		n.start()
		n.drift(undrifted)
	}
	var last patch.Announcement
	for _, version := range []string{"v1", "v2", "v3"} {
		last = publish(t, one.client, map[string]string{"omflow/app.py": version}, patch.Options{})
		one.report(last.ID, patch.StateApplied)
		two.report(last.ID, patch.StateApplied)
	}
	two.stop()
	two.forgets()
	two.start()
	next := publish(t, one.client, map[string]string{"omflow/app.py": "v4"}, patch.Options{})
	two.report(next.ID, patch.StateApplied)
	require.Equal(t, []string{"v0", "v1", "v2", "v3", "v3", "v4"}, two.served())

	// It knows them now, also when they are announced once more.
	rebuild(t, b, one)
	announce(t, one.client, last)
	final := publish(t, one.client, map[string]string{"omflow/app.py": "v5"}, patch.Options{})
	two.report(final.ID, patch.StateApplied)
	require.Equal(t, []string{"v0", "v1", "v2", "v3", "v3", "v4", "v5"}, two.served())
}

// A clone of an old snapshot goes on from where its files are.
func TestHomeThatIsBehindGoesOnFromItsPlace(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	one := newWatchingNode(t, b, "srv1")
	one.start()
	one.drift(undrifted)
	for _, version := range []string{"v1", "v2", "v3"} {
		one.report(publish(t, one.client, map[string]string{"omflow/app.py": version}, patch.Options{}).ID, patch.StateApplied)
	}
	clone := newWatchingNode(t, b, "srv2")
	clone.write("omflow/app.py", "v1")
	clone.start()
	clone.eventually(func() bool { return clone.read("omflow/app.py") == "v3" && clone.count("worker-start") == 3 }, "current")
	require.Equal(t, []string{"v1", "v2", "v3"}, clone.served())
}

// Where nobody knows the files, a person says where the server stands.
func TestHomeThatNobodyKnowsAsks(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	one := newWatchingNode(t, b, "srv1")
	one.start()
	one.drift(undrifted)
	var ids []string
	for _, version := range []string{"v1", "v2"} {
		a := publish(t, one.client, map[string]string{"omflow/app.py": version}, patch.Options{})
		one.report(a.ID, patch.StateApplied)
		ids = append(ids, a.ID)
	}
	lost := newWatchingNode(t, b, "srv2")
	lost.write("omflow/app.py", "v1")
	lost.write("omflow/mine.py", "of nobody else")
	lost.start()
	var s bus.AgentState
	lost.eventually(func() bool {
		nodes, err := bus.Nodes(t.Context(), lost.client.JS)
		for _, n := range nodes {
			if n.Name == "srv2" {
				s = *n.Agent
			}
		}
		return err == nil && s.PatchAsks
	}, "it asks")
	require.Contains(t, s.PatchState, "waiting: this server has no record")
	require.Contains(t, s.PatchState, "omflow-booster nodes place srv2 --after")
	require.Equal(t, []string{"v1"}, lost.served(), "nothing was touched")
	order, err := json.Marshal(bus.PlaceOrder{After: ids[0]})
	require.NoError(t, err)
	reply, err := lost.client.NC.Request(bus.PlaceBySubject("srv2"), order, timeout)
	require.NoError(t, err)
	require.JSONEq(t, `{"error":""}`, string(reply.Data))
	lost.report(ids[1], patch.StateApplied)
	require.Equal(t, []string{"v1", "v2"}, lost.served())
	reply, err = lost.client.NC.Request(bus.PlaceBySubject("srv2"), order, timeout)
	require.NoError(t, err)
	require.Contains(t, string(reply.Data), "it knows")
}
