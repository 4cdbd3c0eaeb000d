package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

func TestPatchIsAppliedWhileWorkerAndServerAreStopped(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	n.write(patch.VersionFile, "version=1.1.4.0\n")
	n.write("omflow/old.py", "old")
	n.start()
	n.eventually(func() bool { return n.count("worker-start") == 1 }, "worker runs")
	a := publish(t, n.client, map[string]string{"omflow/app.py": "v1", "omflow/new/b.py": "b", patch.VersionFile: "version=1.1.5.0\n"},
		patch.Options{From: "1.1.4.0", Deletions: []string{"omflow/old.py"}})
	r := n.report(a.ID, patch.StateApplied)
	n.eventually(func() bool { return n.count("worker-start") == 2 }, "worker runs again")
	require.Equal(t, []string{
		"server-start", "server-healthy", "worker-start",
		"worker-drains", "worker-stop", "server-stop", "server-start", "server-healthy", "worker-start",
	}, n.sequence())
	require.Equal(t, "v1", n.events()[6].detail, "the new server has the new files")
	require.Equal(t, "mine alone", n.read("omflow/settings.py"))
	require.NoFileExists(t, filepath.Join(n.cfg.Home, "omflow/old.py"))
	require.Equal(t, patch.Report{
		Patch: a.ID, Node: "srv1", Seq: 1, Created: a.Created, State: patch.StateApplied, From: "1.1.4.0", To: "1.1.5.0",
		Written: patch.Written{Files: 3, Bytes: 2 + 1 + 16, Deleted: 1}, Started: r.Started, Finished: r.Finished,
	}, r)
	s := n.state(func(s bus.AgentState) bool { return s.PatchSeq == 1 && s.PatchState == "current" })
	require.Equal(t, "1.1.5.0", s.HomeVersion)
	left, err := os.ReadDir(filepath.Join(n.cfg.DataDir, stagingDir))
	require.NoError(t, err)
	require.Empty(t, left, "no artifact is left behind")
}

func TestNodeThatWasAwayCatchesUpInOrder(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	n.start()
	zero := publish(t, n.client, map[string]string{"omflow/app.py": "v0+", "omflow/zero.py": "0"}, patch.Options{})
	first := n.report(zero.ID, patch.StateApplied)
	n.stop()
	ids := []string{
		publish(t, n.client, map[string]string{"omflow/app.py": "v1", "omflow/one.py": "1"}, patch.Options{}).ID,
		publish(t, n.client, map[string]string{"omflow/app.py": "v2"}, patch.Options{Deletions: []string{"omflow/one.py"}}).ID,
		publish(t, n.client, map[string]string{"omflow/app.py": "v3", "omflow/three.py": "3"}, patch.Options{}).ID,
	}
	n.start()
	for i, id := range ids {
		require.EqualValues(t, i+2, n.report(id, patch.StateApplied).Seq)
	}
	require.Equal(t, "v3", n.read("omflow/app.py"))
	require.NoFileExists(t, filepath.Join(n.cfg.Home, "omflow/one.py"))
	require.Equal(t, first, n.report(zero.ID, patch.StateApplied), "what it had was not applied again")
	var seen []string
	for _, e := range n.events() {
		if e.what == "server-start" {
			seen = append(seen, e.detail)
		}
	}
	require.Equal(t, []string{"v0", "v0+", "v0+", "v1", "v2", "v3"}, seen)
}

func TestPatchThatIsAnnouncedAgainIsNotAppliedAgain(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	n.start()
	a := publish(t, n.client, map[string]string{"omflow/app.py": "v1"}, patch.Options{})
	b := publish(t, n.client, map[string]string{"omflow/app.py": "v2"}, patch.Options{})
	first := n.report(a.ID, patch.StateApplied)
	n.report(b.ID, patch.StateApplied)
	announce(t, n.client, a)
	n.state(func(s bus.AgentState) bool { return s.PatchSeq == 3 })
	require.Equal(t, "v2", n.read("omflow/app.py"), "an older patch is never put over a newer one")
	require.Equal(t, first, n.report(a.ID, patch.StateApplied))
	require.Equal(t, 3, n.count("server-start"))
}

// announce publishes an announcement as it is.
func announce(t *testing.T, c *bus.Client, a patch.Announcement) {
	t.Helper()
	data, err := json.Marshal(a)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	_, err = c.JS.Publish(ctx, bus.AnnounceSubject(a.ID), data)
	require.NoError(t, err)
}

func TestBadPatchIsReportedAndPassedOver(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	n.write(patch.VersionFile, "version=1.1.4.0\n")
	n.start()
	store := func(id, content string) patch.Announcement {
		objects, err := n.client.JS.ObjectStore(t.Context(), bus.ObjectPatches)
		require.NoError(t, err)
		_, err = objects.PutString(t.Context(), id, content)
		require.NoError(t, err)
		sum := sha256.Sum256([]byte(content))
		artifact := patch.StoredArtifact{Object: id, Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}
		return patch.Announcement{ID: id, StoredArtifact: artifact}
	}
	garbage := store("garbage", "no archive")
	announce(t, n.client, garbage)
	good, m := artifact(t, map[string]string{"omflow/app.py": "evil"}, patch.Options{})
	data, err := os.ReadFile(good)
	require.NoError(t, err)
	renamed := store("renamed", string(data)) // the artifact of another patch
	announce(t, n.client, renamed)
	wrong := publish(t, n.client, map[string]string{"omflow/app.py": "v9"}, patch.Options{From: "1.1.3.0", To: "1.1.9.0"})
	old := publish(t, n.client, map[string]string{"omflow/app.py": "v-old"}, patch.Options{To: "1.1.3.0"})
	for id, says := range map[string]string{
		"garbage": "damaged", "renamed": m.ID, wrong.ID: "it is for version 1.1.3.0 and this server has 1.1.4.0",
	} {
		require.Contains(t, n.report(id, patch.StateFailed).Error, says)
	}
	require.Contains(t, n.report(old.ID, patch.StateSkipped).Error, "1.1.3.0")
	require.Equal(t, "v0", n.read("omflow/app.py"))
	require.Equal(t, 1, n.count("server-start"), "the server was not disturbed")

	fine := publish(t, n.client, map[string]string{"omflow/app.py": "v1"}, patch.Options{})
	n.report(fine.ID, patch.StateApplied)
	require.Equal(t, "v1", n.read("omflow/app.py"))
}

// Whoever removes an artifact makes no patch bad. Who still needs it says so, and what helps.
func TestArtifactThatSomebodyHasRemoved(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	n.start()
	n.idle()
	n.stop()
	first, _ := artifact(t, map[string]string{"omflow/app.py": "v1"}, patch.Options{})
	one := republish(t, n.client, first)
	two := publish(t, n.client, map[string]string{"omflow/app.py": "v2"}, patch.Options{})
	objects, err := n.client.JS.ObjectStore(t.Context(), bus.ObjectPatches)
	require.NoError(t, err)
	require.NoError(t, objects.Delete(t.Context(), one.Object))
	require.NoError(t, objects.Delete(t.Context(), two.Object))
	n.start()
	waits := func(id string) func(s bus.AgentState) bool {
		return func(s bus.AgentState) bool {
			return s.PatchAsks && strings.HasPrefix(s.PatchState, stateWaiting) && strings.Contains(s.PatchState, "patch abort "+id)
		}
	}
	n.state(waits(one.ID))
	n.report(one.ID, patch.StateRetrying)
	republish(t, n.client, first)
	n.report(one.ID, patch.StateApplied)
	n.state(waits(two.ID))
	require.NoError(t, rollout.Abort(t.Context(), n.client.JS, two.ID, "ann", "it is gone"))
	require.Contains(t, n.report(two.ID, patch.StateSkipped).Error, "it is gone")
	n.idle()
	require.Equal(t, "v1", n.read("omflow/app.py"))
}

// Trouble that may pass holds later patches back, because they may build on this one, and leaves the server alone.
func TestTroubleIsTriedAgainAndKeepsTheOrder(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	n.start()
	staging := filepath.Join(n.cfg.DataDir, stagingDir)
	require.NoError(t, os.Remove(staging)) // as good as a broken disk
	a := publish(t, n.client, map[string]string{"omflow/app.py": "v1"}, patch.Options{})
	b := publish(t, n.client, map[string]string{"omflow/app.py": "v2"}, patch.Options{})
	require.Contains(t, n.report(a.ID, patch.StateRetrying).Error, "fetch artifact")
	require.Equal(t, 1, n.count("server-start"))
	require.NoError(t, os.Mkdir(staging, 0o700))
	require.EqualValues(t, 1, n.report(a.ID, patch.StateApplied).Seq)
	n.report(b.ID, patch.StateApplied)
	require.Equal(t, "v2", n.read("omflow/app.py"))
}

// A node whose rollout is paused while it is still stopping takes everything back and waits.
func TestTurnThatIsLostBeforeThePatchIsInPlace(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	n.start()
	n.eventually(func() bool { return n.count("worker-start") == 1 }, "worker runs")
	n.write("long-step", "")
	a := publish(t, n.client, map[string]string{"omflow/app.py": "v1"}, patch.Options{})
	n.eventually(func() bool { return n.count("worker-drains") == 1 }, "worker is being stopped")
	require.NoError(t, rollout.Pause(t.Context(), n.client.JS, a.ID, "ann", "not now"))
	require.NoError(t, os.Remove(filepath.Join(n.cfg.Home, "long-step")))
	n.eventually(func() bool { return n.count("worker-start") == 2 }, "worker runs again")
	require.Equal(t, "v0", n.read("omflow/app.py"))
	n.state(func(s bus.AgentState) bool { return s.PatchState == "waiting: rollout is paused: not now" })
	require.NoError(t, rollout.Resume(t.Context(), n.client.JS, a.ID, "ann"))
	n.report(a.ID, patch.StateApplied)
	require.Equal(t, "v1", n.read("omflow/app.py"))
}

// A Booster that goes away while the server stops does not end the turn: nobody else can have one meanwhile.
func TestTurnOutlivesTheBooster(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	n := newNode(t, b, "srv1")
	n.start()
	n.eventually(func() bool { return n.count("worker-start") == 1 }, "worker runs")
	n.write("long-step", "")
	a := publish(t, n.client, map[string]string{"omflow/app.py": "v1"}, patch.Options{})
	n.eventually(func() bool { return n.count("worker-drains") == 1 }, "worker is being stopped")
	b.Stop()
	require.NoError(t, os.Remove(filepath.Join(n.cfg.Home, "long-step")))
	n.eventually(func() bool { return n.count("worker-start") == 2 }, "worker runs again")
	require.Equal(t, "v1", n.read("omflow/app.py"))
	b.Start()
	n.report(a.ID, patch.StateApplied)
	require.Equal(t, 2, n.count("server-start"))
}

func TestPatchThatWasAbortedIsPassedOver(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	name, m := artifact(t, map[string]string{"omflow/app.py": "v1"}, patch.Options{})
	require.NoError(t, rollout.Pause(t.Context(), n.client.JS, m.ID, "ann", ""))
	republish(t, n.client, name)
	n.start()
	n.state(func(s bus.AgentState) bool { return s.PatchNext == m.ID })
	require.NoError(t, rollout.Abort(t.Context(), n.client.JS, m.ID, "ann", "it is wrong"))
	require.Contains(t, n.report(m.ID, patch.StateSkipped).Error, "aborted by ann: it is wrong")
	later := publish(t, n.client, map[string]string{"omflow/app.py": "v2"}, patch.Options{})
	n.report(later.ID, patch.StateApplied)
	require.Equal(t, "v2", n.read("omflow/app.py"))
}

func TestTwoNodesNeverApplyAtTheSameTime(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	nodes := []*node{newNode(t, b, "srv1"), newNode(t, b, "srv2"), newNode(t, b, "srv3")}
	for _, n := range nodes {
		n.start()
		n.eventually(func() bool { return n.count("worker-start") == 1 }, "worker runs")
	}
	var ids []string
	for _, version := range []string{"v1", "v2"} {
		ids = append(ids, publish(t, nodes[0].client, map[string]string{"omflow/app.py": version}, patch.Options{}).ID)
	}
	type outage struct{ from, to int64 }
	var outages []outage
	for _, n := range nodes {
		for _, id := range ids {
			n.report(id, patch.StateApplied)
		}
		n.eventually(func() bool { return n.count("server-healthy") == 3 }, "server runs again")
		stopped := int64(0)
		for _, e := range n.events() {
			switch {
			case e.what == "server-stop":
				stopped = e.at
			case e.what == "server-healthy" && stopped != 0:
				outages = append(outages, outage{stopped, e.at})
			}
		}
	}
	require.Len(t, outages, len(nodes)*len(ids))
	for i, a := range outages {
		for _, b := range outages[i+1:] {
			require.True(t, a.to < b.from || b.to < a.from, "two servers were down at the same time: %v", outages)
		}
	}
}
