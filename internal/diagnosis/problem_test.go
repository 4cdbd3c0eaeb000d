package diagnosis

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
)

// healthy is a report without problems.
func healthy() Report {
	return Report{
		At: bustest.Noon, Server: "b1",
		Boosters: []bus.Node{bustest.ActiveNode("b1", "ok"), bustest.BoosterNode("b2")},
		Streams: []StreamState{
			{Name: "WORK", Messages: 1234, Bytes: 5 << 20, LimitBytes: 8 << 30, Full: 5. / 8192},
			{Name: "DEAD", LimitBytes: 2 << 30},
			{Name: "PATCH"},
		},
		Work: &WorkState{
			Waiting: 1200, Delivered: 34, Running: 1, Delayed: 33, Redelivered: 2,
			OldestWaiting: &bus.StepInfo{ID: "q1024", Kind: "FormFlow", At: bustest.Noon.Add(-192 * time.Second)},
		},
		Workers: []bus.Node{bustest.WorkerNode("w1", bustest.AsIs)},
		Agents:  []bus.Node{bustest.AgentNode("om1", bustest.AsIs)},
	}
}

func TestStatusProblems(t *testing.T) { //nolint:funlen // a table is as long as its rows
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*Report)
		want   []string // code and text
	}{
		{"all is well", bustest.AsIs[Report], nil},
		{
			"no Booster", func(r *Report) { r.Boosters = nil },
			[]string{"no_booster_heartbeat no Booster writes its heartbeat, although a server answers"},
		},
		{
			"no witness", func(r *Report) { r.Boosters[0] = bustest.ActiveNode("b1", "no automatic takeover: no witness") },
			[]string{"no_takeover no automatic takeover: no witness"},
		},
		{
			"one Booster is no warning", func(r *Report) {
				r.Boosters = []bus.Node{bustest.ActiveNode("b1", "one Booster: no standby, no automatic takeover")}
				r.Boosters[0].Booster.Mode = bus.ModeStandalone
			},
			[]string{"one_booster one Booster: no standby, no automatic takeover"},
		},
		{
			"nobody leads", func(r *Report) { r.Boosters = r.Boosters[1:] },
			[]string{"no_active_booster no Booster is active: leadership is moving, or there is no majority"},
		},
		{"no worker", func(r *Report) { r.Workers = nil }, []string{"no_worker no worker: no step is executed"}},
		{"80 % is not yet nearly full", func(r *Report) { r.Streams[0].Full = .8 }, nil},
		{"nearly full", func(r *Report) { r.Streams[0].Full = .812 }, []string{"stream_nearly_full WORK is 81 % full"}},
		{"dead steps", func(r *Report) { r.Work.Dead = 1 }, []string{"dead_steps 1 step given up on"}},
		{
			"streams missing", func(r *Report) { r.Streams[0].Missing, r.Streams[2].Missing, r.Work = true, true, nil },
			[]string{"stream_missing not there: WORK, PATCH"},
		},
		{"consumer missing", func(r *Report) { r.Work = nil }, []string{"consumer_missing the workers' consumer of WORK is not there"}},
		{
			"database away",
			func(r *Report) {
				r.Workers = append(r.Workers, bustest.WorkerNode("w2", func(s *bus.WorkerState) { s.Database = "does not answer" }),
					bustest.WorkerNode("w3", func(s *bus.WorkerState) { s.Database = "" }))
			},
			[]string{"worker_database worker w2: database does not answer", "worker_database worker w3: database unknown"},
		},
		{
			"no reconciler", func(r *Report) { r.Workers[0].Worker.Reconciler = false },
			[]string{"no_reconciler no worker is the reconciler: rows without a message are not queued"},
		},
		{
			"versions differ",
			func(r *Report) {
				r.Agents = append(r.Agents, bustest.AgentNode("om2", func(s *bus.AgentState) { s.HomeVersion = "1.1.4.1" }),
					bustest.AgentNode("om3", bustest.AsIs), bustest.AgentNode("om4", func(s *bus.AgentState) { s.HomeVersion = "" }))
			},
			[]string{"versions_differ OMFLOW versions differ: 1.1.4.0 on om1, om3; 1.1.4.1 on om2; unknown on om4"},
		},
		{
			"home is another one", func(r *Report) {
				r.Agents[0].Agent.PatchState = bus.PatchesStopped + "OMFLOW_HOME is another directory"
			},
			[]string{"home_changed agent om1: OMFLOW_HOME is another directory"},
		},
		{
			"a file is being written", func(r *Report) { r.Agents[0].Agent.Moving = "static/big.zip" },
			[]string{"drift_moving agent om1: what was changed in its home waits until static/big.zip has rested"},
		},
		{
			"changes held back", func(r *Report) {
				r.Agents[0].Agent.Drift, r.Agents[0].Agent.Held = 2, "it looks like a lost disk"
			},
			[]string{"drift_held agent om1 holds back 2 files that were changed in its home: it looks like a lost disk"},
		},
		{
			"servers differ", func(r *Report) {
				baseline := func(digest string, seq uint64) func(s *bus.AgentState) {
					return func(s *bus.AgentState) { s.Baseline, s.PatchSeq = digest, seq }
				}
				r.Agents = []bus.Node{
					bustest.AgentNode("om1", baseline("a1", 7)), bustest.AgentNode("om2", baseline("b2", 7)), bustest.AgentNode("om3", baseline("a1", 7)),
					bustest.AgentNode("om4", baseline("c3", 6)), bustest.AgentNode("om5", baseline("", 7)), // is behind; watches nothing
				}
			},
			[]string{"files_differ the same patches, and not the same files: a1 on om1, om3; b2 on om2"},
		},
		{
			"rollout halted", func(r *Report) {
				r.Rollouts = []WaitingRollout{{Patch: "p1", Note: "fix", State: "halted", Reason: "rolled back on om1"}}
			},
			[]string{"rollout_halted patch p1 (fix) is halted: rolled back on om1"},
		},
		{
			"plan that is not JSON", func(r *Report) {
				r.Rollouts = []WaitingRollout{{Patch: "p1", State: "unreadable", Reason: "invalid character"}}
			},
			[]string{"rollout_unreadable patch p1 goes to no further server, because its plan cannot be read: invalid character"},
		},
		{
			"rollout held", func(r *Report) {
				r.Rollouts = []WaitingRollout{{Patch: "p1", State: "running", Reason: "om1 without service"}}
			},
			[]string{"rollout_held patch p1 goes to no further server now: om1 without service"},
		},
		{
			"patch failed", func(r *Report) { r.Agents[0].Agent.PatchState = "failed: no space" },
			[]string{"patch_failed agent om1: patch failed: no space"},
		},
		{
			"patch rolled back", func(r *Report) { r.Agents[0].Agent.PatchState = "rolled back: not healthy" },
			[]string{"patch_failed agent om1: patch rolled back: not healthy"},
		},
		{
			"server does not stay up",
			func(r *Report) {
				r.Agents[0].Agent.Server, r.Agents[0].Agent.LastError, r.Agents[0].Agent.Restarts = "failing", "server: exit status 1", 7
			},
			[]string{"child_failing agent om1: its OMFLOW Server does not stay up: server: exit status 1 (restarts: 7)"},
		},
		{
			"witness does not stay up",
			func(r *Report) {
				r.Agents[0].Agent.WitnessState, r.Agents[0].Agent.LastError = "failing", "witness: exit status 2"
			},
			[]string{"child_failing agent om1: its witness does not stay up: witness: exit status 2 (restarts: 0)"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := healthy()
			c.change(&r)
			var got []string
			for _, p := range findProblems(r) {
				got = append(got, p.Code+" "+p.Text)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// Heartbeats are seconds old: two of them may say that their Booster is active, and one may be of a Booster that is dead.
func TestStatusShowsOneActiveBooster(t *testing.T) {
	t.Parallel()
	live := func(n bus.Node, others ...bus.Member) bus.ClusterState {
		return bus.ClusterState{Node: n, Majority: true, Members: others}
	}
	there := func(name string) bus.Member { return bus.Member{Name: name, Role: bus.ServiceBooster, There: true} }
	for name, c := range map[string]struct {
		cluster bus.Cluster
		want    string
	}{
		"nobody answers": {nil, "b1 standby, b2 active"},
		"one has just handed over": {
			bus.Cluster{live(bustest.BoosterNode("b1"), there("b2")), live(bustest.ActiveNode("b2", "ok"), there("b1"))},
			"b1 standby, b2 active",
		},
		"between two answers": {
			bus.Cluster{live(bustest.ActiveNode("b1", "ok"), there("b2")), live(bustest.ActiveNode("b2", "ok"), there("b1"))},
			"b1 standby, b2 active",
		},
		"one is frozen": {bus.Cluster{live(bustest.ActiveNode("b2", "ok"), there("b1"))}, "b1 standby, b2 active"},
		"one is dead": {
			bus.Cluster{live(bustest.ActiveNode("b2", "ok"), bus.Member{Name: "b1", Role: bus.ServiceBooster},
				bus.Member{Name: "witness-x", Role: bus.RoleWitness})},
			"b1 silent, b2 active",
		},
	} {
		r := Report{Boosters: []bus.Node{bustest.ActiveNode("b1", "ok"), bustest.ActiveNode("b2", "ok")}}
		r.Boosters[1].At = bustest.Noon.Add(time.Second)
		r.show(c.cluster)
		var got []string
		for _, n := range r.Boosters {
			got = append(got, n.Name+" "+n.Booster.Duty)
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%s: %v, want %s", name, got, c.want)
		}
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		codes  []string
		health string
	}{
		"nothing is wrong":      {nil, HealthGood},
		"a file is written":     {[]string{codeMoving}, HealthGood},
		"one Booster is a note": {[]string{"one_booster"}, HealthGood},
		"something is":          {[]string{"one_booster", "dead_steps"}, HealthWarnings},
		"no majority":           {[]string{CodeNoMajority}, HealthNone},
		"no stream":             {[]string{"dead_steps", "stream_missing", "no_worker"}, HealthNone},
	} {
		var r Report
		for _, code := range c.codes {
			r.Problems = append(r.Problems, Problem{Code: code})
		}
		r.judge()
		if r.Health != c.health {
			t.Errorf("%s: %q, want %q", name, r.Health, c.health)
		}
	}
}

// Servers differ although nothing is left to apply: one has a patch whose announcement somebody removed before the other read it.
func TestServersThatDifferByAPatchThatIsNotAnnouncedAnyMore(t *testing.T) {
	t.Parallel()
	r := healthy()
	r.Agents = []bus.Node{
		bustest.AgentNode("om1", func(a *bus.AgentState) { a.PatchSeq, a.Baseline = 5, "new" }),
		bustest.AgentNode("om2", func(a *bus.AgentState) { a.PatchSeq, a.Baseline = 4, "old" }),
	}
	count := func(last uint64) (n int) {
		r.store = patchStore{known: true, last: last}
		for _, p := range findProblems(r) {
			if p.Code == "files_differ" {
				n++
			}
		}
		return n
	}
	if n := count(5); n != 0 {
		t.Errorf("om2 has the patch before it: %d", n)
	}
	for _, last := range []uint64{0, 4} {
		if n := count(last); n != 1 {
			t.Errorf("last announcement %d: %d", last, n)
		}
	}
}
