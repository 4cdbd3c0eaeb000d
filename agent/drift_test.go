package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

// newWatchingNode is a node that publishes what is changed in its home.
func newWatchingNode(t *testing.T, b *bustest.Bus, name string) *node {
	t.Helper()
	n := newNode(t, b, name)
	n.cfg.Watch, n.cfg.WatchQuiet = watchPublish, 300*time.Millisecond
	n.write(".booster-none", "no part of the home")
	key, err := ours()
	require.NoError(t, err)
	n.cfg.JoinFile = filepath.Join(t.TempDir(), "join.json")
	require.NoError(t, key.Create(n.cfg.JoinFile))
	return n
}

// drift asks every agent until one that is called like the node has answered, and cond holds.
func (n *node) drift(cond func(d bus.Drift) bool) (d bus.Drift) {
	n.t.Helper()
	n.eventually(func() bool {
		inbox := n.client.NC.NewRespInbox()
		sub, err := n.client.NC.SubscribeSync(inbox)
		require.NoError(n.t, err)
		defer func() { _ = sub.Unsubscribe() }()
		require.NoError(n.t, n.client.NC.PublishRequest(bus.DriftSubject, inbox, nil))
		for {
			msg, err := sub.NextMsg(time.Second)
			if err != nil {
				return false
			}
			d = bus.Drift{}
			require.NoError(n.t, json.Unmarshal(msg.Data, &d))
			if d.Node == n.cfg.Name {
				return cond(d)
			}
		}
	}, "drift")
	return d
}

func undrifted(d bus.Drift) bool { return d.Total == 0 }

// published waits until so many patches are announced.
func published(t *testing.T, n *node, want int) (list []patch.Announcement) {
	t.Helper()
	n.eventually(func() bool {
		var err error
		list, err = patch.List(t.Context(), n.client.JS)
		return err == nil && len(list) >= want
	}, "published")
	require.Len(t, list, want)
	return list
}

func TestFilesThatAreChangedOnOneServerReachTheOthers(t *testing.T) {
	t.Parallel()
	b := newBusWith(t, rollout.Policy{MaxUnavailable: 2}) // one is away while another one is patched
	nodes := []*node{newWatchingNode(t, b, "srv1"), newWatchingNode(t, b, "srv2"), newWatchingNode(t, b, "srv3")}
	for _, n := range nodes {
		n.write("omflow/old.py", "old")
		n.start()
	}
	one, two := nodes[0], nodes[1]
	before := one.drift(undrifted).Baseline
	require.Equal(t, before, two.drift(undrifted).Baseline)

	two.write("omflow/app.py", "v1")
	two.write("omflow/production/f1/1/main.py", "deployed")
	two.write("omflow/settings.py", "still mine")
	two.write("logs/today.txt", "noise")
	two.write("omflow/__pycache__/app.pyc", "noise")
	require.NoError(t, os.Remove(filepath.Join(two.cfg.Home, "omflow/old.py")))
	first := published(t, one, 1)[0]
	require.Equal(t, [3]any{2, 1, "srv2"}, [3]any{first.Files, first.Deletions, first.Author})
	for _, n := range nodes {
		n.report(first.ID, patch.StateApplied)
		require.NotEqual(t, before, n.drift(undrifted).Baseline)
		require.Equal(t, "v1", n.read("omflow/app.py"))
		require.Equal(t, "deployed", n.read("omflow/production/f1/1/main.py"))
		require.NoFileExists(t, filepath.Join(n.cfg.Home, "omflow/old.py"))
	}
	require.Equal(t, "mine alone", one.read("omflow/settings.py"))
	require.Equal(t, one.drift(undrifted).Baseline, two.drift(undrifted).Baseline)

	// From another server, while the one before is away; and what was changed while an agent was away.
	two.stop()
	two.write("omflow/second.py", "2")
	one.write("omflow/app.py", "v2")
	second := published(t, one, 2)[1]
	one.report(second.ID, patch.StateApplied)
	two.start()
	third := published(t, one, 3)[2]
	require.Equal(t, "srv2", third.Author)
	for _, n := range nodes {
		n.report(second.ID, patch.StateApplied)
		n.report(third.ID, patch.StateApplied)
		require.Equal(t, "v2", n.read("omflow/app.py"))
		require.Equal(t, "2", n.read("omflow/second.py"))
		n.drift(undrifted)
	}
	published(t, one, 3)
}

func TestDriftIsReported(t *testing.T) {
	t.Parallel()
	n := newWatchingNode(t, newBus(t), "srv1")
	n.cfg.Watch = watchReport
	n.start()
	n.drift(undrifted)
	n.write("omflow/new.py", "x")
	n.write("omflow/app.py", "by hand")
	d := n.drift(func(d bus.Drift) bool { return d.Total == 2 })
	require.Equal(t, []bus.DriftFile{{Path: "omflow/app.py", Kind: "changed"}, {Path: "omflow/new.py", Kind: "added"}}, d.Files)
	require.NotNil(t, d.Since)
	n.state(func(s bus.AgentState) bool { return s.Drift == 2 && s.PatchState == "current" })
	n.stop()
	n.start() // what the baseline is does not change with a restart
	n.drift(func(d bus.Drift) bool { return d.Total == 2 })
	n.write("omflow/app.py", "v0")
	require.NoError(t, os.Remove(filepath.Join(n.cfg.Home, "omflow/new.py")))
	n.drift(undrifted)
	published(t, n, 0)
}

func TestPatchAndServerContradictEachOther(t *testing.T) {
	t.Parallel()
	n := newWatchingNode(t, newBus(t), "srv1")
	n.cfg.Watch = watchReport
	n.start()
	n.drift(undrifted)
	n.write("omflow/app.py", "by hand")
	n.write("omflow/gone.py", "by hand")
	changes, _ := nextVersion()
	changes["omflow/app.py"] = "v1"
	conflicting := func(o patch.Options) patch.Announcement {
		starts := n.count("server-start")
		a := publish(t, n.client, changes, o)
		require.Contains(t, n.report(a.ID, patch.StateConflict).Error, "omflow/app.py")
		n.state(func(s bus.AgentState) bool { return s.PatchNext == "" }) // nobody waits for it
		require.Equal(t, "by hand", n.read("omflow/app.py"))
		require.Equal(t, starts, n.count("server-start"))
		return a
	}

	a := conflicting(patch.Options{Deletions: []string{"omflow/gone.py"}})
	require.NoError(t, rollout.Resolve(t.Context(), n.client.JS, a.ID, "srv1", rollout.TakeServer))
	n.report(a.ID, patch.StateApplied)
	require.Equal(t, "by hand", n.read("omflow/app.py"), "kept")
	require.Equal(t, "by hand", n.read("omflow/gone.py"), "kept")
	require.Equal(t, "1", n.read("omflow/first.py"), "the rest is applied")
	n.drift(func(d bus.Drift) bool { return d.Total == 2 })

	changes["omflow/app.py"] = "v2"
	b := conflicting(patch.Options{})
	require.NoError(t, rollout.Resolve(t.Context(), n.client.JS, b.ID, rollout.Everywhere, rollout.TakePatch))
	n.report(b.ID, patch.StateApplied)
	require.Equal(t, "v2", n.read("omflow/app.py"))

	n.write("omflow/app.py", "by hand")
	n.drift(func(d bus.Drift) bool { return d.Total == 2 })
	changes["omflow/app.py"] = "v3"
	c := conflicting(patch.Options{})
	n.write("omflow/app.py", "v2") // undone by hand
	n.report(c.ID, patch.StateApplied)
	require.Equal(t, "v3", n.read("omflow/app.py"))

	n.write("omflow/app.py", "by hand")
	n.drift(func(d bus.Drift) bool { return d.Total == 2 })
	changes["omflow/app.py"] = "v4"
	d := conflicting(patch.Options{})
	require.NoError(t, rollout.Abort(t.Context(), n.client.JS, d.ID, "ann", "no"))
	n.report(d.ID, patch.StateSkipped)
	require.Equal(t, "by hand", n.read("omflow/app.py"))
}

// Two servers are changed at once: the order of the stream holds, and where they contradict each other everybody waits for a word.
// An edit that is made while the worker finishes its steps, after the patch was compared with the server, is a conflict like any other.
func TestEditWhileTheServerStopsIsNotLost(t *testing.T) {
	t.Parallel()
	n := newWatchingNode(t, newBus(t), "srv1")
	n.cfg.Watch = watchReport
	n.start()
	n.drift(undrifted)
	n.eventually(func() bool { return n.count("worker-start") == 1 }, "worker runs")
	n.write("long-step", "")
	a := publish(t, n.client, map[string]string{"omflow/app.py": "theirs", "omflow/other.py": "new"}, patch.Options{})
	n.eventually(func() bool { return n.count("worker-drains") == 1 }, "the worker is asked to end")
	n.write("omflow/app.py", "mine, at the last moment")
	require.NoError(t, os.Remove(filepath.Join(n.cfg.Home, "long-step")))
	r := n.report(a.ID, patch.StateConflict)
	require.Contains(t, r.Error, "omflow/app.py was changed here and by the patch")
	require.Equal(t, "mine, at the last moment", n.read("omflow/app.py"))
	n.eventually(func() bool { return n.count("server-healthy") == 2 && n.count("worker-start") == 2 }, "the server serves meanwhile")
	require.NoError(t, rollout.Resolve(t.Context(), n.client.JS, a.ID, rollout.Everywhere, rollout.TakeServer))
	n.report(a.ID, patch.StateApplied)
	require.Equal(t, "mine, at the last moment", n.read("omflow/app.py"))
	require.Equal(t, "new", n.read("omflow/other.py"))
}

func TestTwoServersAreChangedAtOnce(t *testing.T) {
	t.Parallel()
	b := newBusWith(t, rollout.Policy{MaxUnavailable: 2}) // both were away
	one, two := newWatchingNode(t, b, "srv1"), newWatchingNode(t, b, "srv2")
	one.start()
	two.start()
	one.drift(undrifted)
	two.drift(undrifted)
	one.stop()
	two.stop()
	one.write("omflow/app.py", "one's")
	two.write("omflow/app.py", "two's")
	two.write("omflow/other.py", "nobody else's")
	one.start()
	first := published(t, one, 1)[0]
	one.report(first.ID, patch.StateApplied)
	two.start()
	require.Contains(t, two.report(first.ID, patch.StateConflict).Error, "omflow/app.py was changed here and by the patch")
	require.NoError(t, rollout.Resolve(t.Context(), b.Client().JS, first.ID, "srv2", rollout.TakeServer))
	two.report(first.ID, patch.StateApplied)
	second := published(t, one, 2)[1] // it goes on top of the first one
	for _, n := range []*node{one, two} {
		n.report(second.ID, patch.StateApplied)
		n.drift(undrifted)
		require.Equal(t, "two's", n.read("omflow/app.py"))
		require.Equal(t, "nobody else's", n.read("omflow/other.py"))
	}
}

// A change with which the server does not become healthy stays where it was made, halts there, and is not published again and again.
func TestChangeThatIsNotHealthy(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	one, two := newWatchingNode(t, b, "srv1"), newWatchingNode(t, b, "srv2")
	one.cfg.HealthTimeout = 2 * time.Second
	one.start()
	two.start()
	one.drift(undrifted)
	require.NoError(t, os.WriteFile(filepath.Join(one.cfg.Home, "broken"), nil, 0o600))
	a := published(t, one, 1)[0]
	one.report(a.ID, patch.StateRolledBack)
	require.NoError(t, rollout.Abort(t.Context(), b.Client().JS, a.ID, "ann", "it is broken")) // with the policy of this test it would go on
	d := one.drift(func(d bus.Drift) bool { return d.Published == a.ID })
	require.Equal(t, []bus.DriftFile{{Path: "broken", Kind: "added"}}, d.Files)
	require.NoError(t, os.Remove(filepath.Join(one.cfg.Home, "broken")))
	one.drift(undrifted)
	published(t, one, 1)
}

// What was published once is published again when it is done again after it was undone.
func TestSameChangeIsMadeAgain(t *testing.T) {
	t.Parallel()
	n := newWatchingNode(t, newBus(t), "srv1")
	n.start()
	n.drift(undrifted)
	n.write("omflow/app.py", "v1")
	n.report(published(t, n, 1)[0].ID, patch.StateApplied)
	n.report(publish(t, n.client, map[string]string{"omflow/app.py": "v0"}, patch.Options{}).ID, patch.StateApplied)
	n.drift(undrifted)
	n.write("omflow/app.py", "v1")
	n.report(published(t, n, 3)[2].ID, patch.StateApplied)
	require.Equal(t, "v1", n.read("omflow/app.py"))
}

func TestAgentThatMayNotSignPublishesNothing(t *testing.T) {
	t.Parallel()
	n := newWatchingNode(t, newBus(t), "srv1")
	key, err := ours()
	require.NoError(t, err)
	n.cfg.JoinFile = joinFile(t, key)
	n.start()
	n.drift(undrifted)
	n.write("omflow/app.py", "by hand")
	n.drift(func(d bus.Drift) bool { return d.Total == 1 })
	n.state(func(s bus.AgentState) bool { return s.Drift == 1 && s.PatchState == "current" })
	published(t, n, 0)
}

func TestChangedFilesAreBroughtBack(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	one, two := newWatchingNode(t, b, "srv1"), newWatchingNode(t, b, "srv2")
	for _, n := range []*node{one, two} {
		n.cfg.Watch = watchReport
		n.write("omflow/gone.py", "0")
		n.start()
		n.drift(undrifted)
	}
	two.write("omflow/app.py", "by hand")
	two.write("omflow/new.py", "by hand")
	two.write("omflow/settings.py", "his own")
	require.NoError(t, os.Remove(filepath.Join(two.cfg.Home, "omflow/gone.py")))
	two.drift(func(d bus.Drift) bool { return d.Total == 3 })
	order := func() {
		_, err := two.client.NC.Request(bus.RepairSubject("srv2"), nil, timeout)
		require.NoError(t, err)
	}
	order()
	two.drift(undrifted)
	require.Equal(t, "v0", two.read("omflow/app.py"))
	require.Equal(t, "0", two.read("omflow/gone.py"))
	require.NoFileExists(t, filepath.Join(two.cfg.Home, "omflow/new.py"))
	require.Equal(t, "his own", two.read("omflow/settings.py"))
	two.eventually(func() bool { return two.count("worker-start") == 2 }, "it works again")

	one.stop()
	two.write("omflow/app.py", "by hand")
	two.drift(func(d bus.Drift) bool { return d.Total == 1 })
	order()
	require.Contains(t, two.drift(func(d bus.Drift) bool { return d.Repair != "" }).Repair, "no other server has these files")
	require.Equal(t, "by hand", two.read("omflow/app.py"))
}
