package cli

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

var (
	noon    = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	started = noon.Add(-90 * time.Minute)
)

func boosterNode(name string) bus.Node {
	return bus.Node{
		Role: bus.ServiceBooster, Name: name, Host: name + ".example", PID: 10, Version: "v1.0.0", Started: started, At: noon,
		Booster: &bus.BoosterState{
			Mode: "cluster", Duty: bus.DutyStandby, Address: "10.0.0.5:5169", Sync: "always", StoreBytes: 3 << 20, StoreLimit: 20 << 30,
		},
	}
}

func activeNode(name, takeover string) bus.Node {
	n := boosterNode(name)
	n.Booster.Duty, n.Booster.Takeover = bus.DutyActive, takeover
	return n
}

func workerNode(name string, change func(*bus.WorkerState)) bus.Node {
	state := &bus.WorkerState{
		Server: "om1", Executor: "runner", Slots: 4, Running: 1, Done: 12345, Failed: 2, Redelivered: 1,
		Database: "ok", Reconciler: true,
	}
	change(state)
	return bus.Node{
		Role: bus.ServiceWorker, Name: name, Host: name + ".example", PID: 11, Version: "v1.0.0", Started: started, At: noon,
		Worker: state,
	}
}

func agentNode(name string, change func(*bus.AgentState)) bus.Node {
	state := &bus.AgentState{
		HomeVersion: "1.1.4.0", PatchSeq: 3, PatchState: "current", WitnessState: "running", Server: "running",
		Worker: "running", ServerPID: 20, WorkerPID: 21,
	}
	change(state)
	return bus.Node{
		Role: bus.ServiceAgent, Name: name, Host: name + ".example", PID: 12, Version: "v1.0.0", Started: started, At: noon,
		Agent: state,
	}
}

func asIs[T any](*T) {}

// healthy is a report without problems.
func healthy() statusReport {
	return statusReport{
		At: noon, Server: "b1",
		Boosters: []bus.Node{activeNode("b1", "ok"), boosterNode("b2")},
		Streams: []streamState{
			{Name: "WORK", Messages: 1234, Bytes: 5 << 20, LimitBytes: 8 << 30, Full: 5. / 8192},
			{Name: "DEAD", LimitBytes: 2 << 30},
			{Name: "PATCH"},
		},
		Work: &workState{
			Waiting: 1200, Delivered: 34, Running: 1, Delayed: 33, Redelivered: 2,
			OldestWaiting: &step{ID: "q1024", Kind: "FormFlow", At: noon.Add(-192 * time.Second)},
		},
		Workers: []bus.Node{workerNode("w1", asIs)},
		Agents:  []bus.Node{agentNode("om1", asIs)},
	}
}

func TestStatusScreen(t *testing.T) {
	t.Parallel()
	r := healthy()
	r.Boosters = []bus.Node{activeNode("b1", "no automatic takeover: no witness"), boosterNode("b2")}
	r.Work.Dead = 2
	r.Problems = findProblems(r)
	var out strings.Builder
	if err := r.print(&out, false); err != nil {
		t.Fatal(err)
	}
	want := `Boosters
  NAME  DUTY     MODE     ADDRESS        STORE            SYNC    VERSION  UP
  b1    active   cluster  10.0.0.5:5169  3 MiB of 20 GiB  always  v1.0.0   1h30m
  b2    standby  cluster  10.0.0.5:5169  3 MiB of 20 GiB  always  v1.0.0   1h30m

Streams
  NAME   MESSAGES  BYTES  LIMIT  FULL
  WORK   1,234     5 MiB  8 GiB  0 %
  DEAD   0         0 B    2 GiB  0 %
  PATCH  0         0 B    none   -

Work
  WAITING  RUNNING  DELAYED  REDELIVERED  DEAD  OLDEST WAITING
  1,200    1        33       2            2     q1024, queued 3m12s ago

Workers
  NAME  SERVER  EXECUTOR  RUNNING/SLOTS  DONE    FAILED  REDELIVERED  DATABASE  DUTY
  w1    om1     runner    1/4            12,345  2       1            ok        reconciler

Agents
  NAME  OMFLOW   SERVER   WORKER   PATCHES  RESTARTS  WITNESS
  om1   1.1.4.0  running  running  current  0         running

WARNING: no automatic takeover: no witness
WARNING: 2 steps given up on
         Look with ` + "`omflow-booster dead ls`, then `omflow-booster dead retry` or `purge`." + "\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	out.Reset()
	if err := r.print(&out, true); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "\x1b[1;31mWARNING: 2 steps given up on\x1b[0m\n") {
		t.Errorf("no colour on a terminal:\n%q", out.String())
	}
}

// A node of another version may write an entry without its part; that is no reason to fall over.
func TestStatusOfNodesThatSayNothing(t *testing.T) {
	t.Parallel()
	r := healthy()
	r.Boosters[0].Booster, r.Workers[0].Worker, r.Agents[0].Agent, r.Work = nil, nil, nil, nil
	r.combine()
	r.Problems = findProblems(r)
	var out strings.Builder
	if err := r.print(&out, false); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "Work: not known") {
		t.Error(out.String())
	}
}

func TestStatusProblems(t *testing.T) { //nolint:funlen // a table is as long as its rows
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*statusReport)
		want   []string // code and text
	}{
		{"all is well", asIs[statusReport], nil},
		{
			"no Booster", func(r *statusReport) { r.Boosters = nil },
			[]string{"no_booster_heartbeat no Booster writes its heartbeat, although a server answers"},
		},
		{
			"no witness", func(r *statusReport) { r.Boosters[0] = activeNode("b1", "no automatic takeover: no witness") },
			[]string{"no_takeover no automatic takeover: no witness"},
		},
		{
			"one Booster is no warning", func(r *statusReport) {
				r.Boosters = []bus.Node{activeNode("b1", "one Booster: no standby, no automatic takeover")}
				r.Boosters[0].Booster.Mode = bus.ModeStandalone
			},
			[]string{"one_booster one Booster: no standby, no automatic takeover"},
		},
		{
			"nobody leads", func(r *statusReport) { r.Boosters = r.Boosters[1:] },
			[]string{"no_active_booster no Booster is active: leadership is moving, or there is no majority"},
		},
		{"no worker", func(r *statusReport) { r.Workers = nil }, []string{"no_worker no worker: no step is executed"}},
		{"80 % is not yet nearly full", func(r *statusReport) { r.Streams[0].Full = .8 }, nil},
		{"nearly full", func(r *statusReport) { r.Streams[0].Full = .812 }, []string{"stream_nearly_full WORK is 81 % full"}},
		{"dead steps", func(r *statusReport) { r.Work.Dead = 1 }, []string{"dead_steps 1 step given up on"}},
		{
			"streams missing", func(r *statusReport) { r.Streams[0].Missing, r.Streams[2].Missing, r.Work = true, true, nil },
			[]string{"stream_missing not there: WORK, PATCH"},
		},
		{"consumer missing", func(r *statusReport) { r.Work = nil }, []string{"consumer_missing the workers' consumer of WORK is not there"}},
		{
			"database away",
			func(r *statusReport) {
				r.Workers = append(r.Workers, workerNode("w2", func(s *bus.WorkerState) { s.Database = "does not answer" }),
					workerNode("w3", func(s *bus.WorkerState) { s.Database = "" }))
			},
			[]string{"worker_database worker w2: database does not answer", "worker_database worker w3: database unknown"},
		},
		{
			"no reconciler", func(r *statusReport) { r.Workers[0].Worker.Reconciler = false },
			[]string{"no_reconciler no worker is the reconciler: rows without a message are not queued"},
		},
		{
			"versions differ",
			func(r *statusReport) {
				r.Agents = append(r.Agents, agentNode("om2", func(s *bus.AgentState) { s.HomeVersion = "1.1.4.1" }),
					agentNode("om3", asIs), agentNode("om4", func(s *bus.AgentState) { s.HomeVersion = "" }))
			},
			[]string{"versions_differ OMFLOW versions differ: 1.1.4.0 on om1, om3; 1.1.4.1 on om2; unknown on om4"},
		},
		{
			"home is another one", func(r *statusReport) {
				r.Agents[0].Agent.PatchState = bus.PatchesStopped + "OMFLOW_HOME is another directory"
			},
			[]string{"home_changed agent om1: OMFLOW_HOME is another directory"},
		},
		{
			"a file is being written", func(r *statusReport) { r.Agents[0].Agent.Moving = "static/big.zip" },
			[]string{"drift_moving agent om1: what was changed in its home waits until static/big.zip has rested"},
		},
		{
			"changes held back", func(r *statusReport) {
				r.Agents[0].Agent.Drift, r.Agents[0].Agent.Held = 2, "it looks like a lost disk"
			},
			[]string{"drift_held agent om1 holds back 2 files that were changed in its home: it looks like a lost disk"},
		},
		{
			"servers differ", func(r *statusReport) {
				baseline := func(digest string, seq uint64) func(s *bus.AgentState) {
					return func(s *bus.AgentState) { s.Baseline, s.PatchSeq = digest, seq }
				}
				r.Agents = []bus.Node{
					agentNode("om1", baseline("a1", 7)), agentNode("om2", baseline("b2", 7)), agentNode("om3", baseline("a1", 7)),
					agentNode("om4", baseline("c3", 6)), agentNode("om5", baseline("", 7)), // is behind; watches nothing
				}
			},
			[]string{"files_differ the same patches, and not the same files: a1 on om1, om3; b2 on om2"},
		},
		{
			"rollout halted", func(r *statusReport) {
				r.Rollouts = []waitingRollout{{Patch: "p1", Note: "fix", State: "halted", Reason: "rolled back on om1"}}
			},
			[]string{"rollout_halted patch p1 (fix) is halted: rolled back on om1"},
		},
		{
			"plan that is not JSON", func(r *statusReport) {
				r.Rollouts = []waitingRollout{{Patch: "p1", State: "unreadable", Reason: "invalid character"}}
			},
			[]string{"rollout_unreadable patch p1 goes to no further server, because its plan cannot be read: invalid character"},
		},
		{
			"rollout held", func(r *statusReport) {
				r.Rollouts = []waitingRollout{{Patch: "p1", State: "running", Reason: "om1 without service"}}
			},
			[]string{"rollout_held patch p1 goes to no further server now: om1 without service"},
		},
		{
			"patch failed", func(r *statusReport) { r.Agents[0].Agent.PatchState = "failed: no space" },
			[]string{"patch_failed agent om1: patch failed: no space"},
		},
		{
			"patch rolled back", func(r *statusReport) { r.Agents[0].Agent.PatchState = "rolled back: not healthy" },
			[]string{"patch_failed agent om1: patch rolled back: not healthy"},
		},
		{
			"server does not stay up",
			func(r *statusReport) {
				r.Agents[0].Agent.Server, r.Agents[0].Agent.LastError, r.Agents[0].Agent.Restarts = "failing", "server: exit status 1", 7
			},
			[]string{"child_failing agent om1: its OMFLOW Server does not stay up: server: exit status 1 (restarts: 7)"},
		},
		{
			"witness does not stay up",
			func(r *statusReport) {
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

// Everything that status shows comes from the bus and nowhere else.
func TestStatusJSON(t *testing.T) {
	s := newStage(t)
	s.putNode(boosterNode("b1"))
	s.putNode(workerNode("w1", asIs))
	s.putNode(agentNode("om1", asIs))
	for _, id := range []string{"q1", "q2", "q3", "q4"} {
		s.putWork("FormFlow", "f1", id)
	}
	s.putDead("FormFlow", "f1", "q9", body("FormFlow"))
	s.take()  // q1 is done
	s.fetch() // q2 runs, as the heartbeat says
	if err := s.fetch().NakWithDelay(time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := s.c.NC.Flush(); err != nil {
		t.Fatal(err)
	}
	r := run(t, "", "status", "--json")
	if r.code != exitWarnings || r.stderr != "" {
		t.Fatalf("%+v", r)
	}
	var got statusReport
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(got.At); d < 0 || d > time.Minute {
		t.Errorf("at %s", got.At)
	}
	for i := range got.Streams {
		got.Streams[i].Bytes, got.Streams[i].LimitBytes, got.Streams[i].Full = 0, 0, 0
	}
	for _, oldest := range []*step{got.Work.OldestWaiting, got.Work.OldestUnfinished} {
		oldest.At = time.Time{}
	}
	want := statusReport{
		At: got.At, Server: "booster-1",
		Boosters: []bus.Node{boosterNode("b1")},
		Streams: []streamState{
			{Name: "WORK", Messages: 3}, {Name: "DEAD", Messages: 1}, {Name: "PATCH"}, {Name: "OBJ_PATCHES"}, {Name: "KV_ROLLOUT"},
		},
		Work: &workState{
			Waiting: 1, Delivered: 2, Running: 1, Delayed: 1, Dead: 1,
			OldestWaiting:    &step{ID: "q4", Kind: "FormFlow", Flow: "f1", Ticket: "f1/7", Sequence: 4, Bytes: 90},
			OldestUnfinished: &step{ID: "q2", Kind: "FormFlow", Flow: "f1", Ticket: "f1/7", Sequence: 2, Bytes: 90},
		},
		Workers:  []bus.Node{workerNode("w1", asIs)},
		Agents:   []bus.Node{agentNode("om1", asIs)},
		Away:     []awayServer{},
		Rollouts: []waitingRollout{},
		Problems: got.Problems, Health: healthWarnings,
	}
	if !reflect.DeepEqual(got, want) {
		a, _ := json.MarshalIndent(got, "", " ")
		b, _ := json.MarshalIndent(want, "", " ")
		t.Errorf("got\n%s\nwant\n%s", a, b)
	}
	var codes []string
	for _, p := range got.Problems {
		codes = append(codes, p.Code)
	}
	if strings.Join(codes, " ") != "no_active_booster dead_steps" {
		t.Errorf("problems %v", got.Problems)
	}
}

// A server that no Booster prepared, or not yet, is shown with what is missing.
func TestStatusOfABareServer(t *testing.T) {
	newBareStage(t)
	r := run(t, "", "status")
	if r.code != exitNoService || !strings.Contains(r.stdout, "WARNING: not there: WORK, DEAD, PATCH, OBJ_PATCHES, KV_ROLLOUT\n") ||
		!strings.Contains(r.stdout, "Boosters: none\n") || !strings.Contains(r.stdout, "somebody removed it: then start the Booster again") {
		t.Errorf("%+v", r)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(run(t, "", "status", "--json").stdout), &got); err != nil {
		t.Fatal(err)
	}
	for _, list := range []string{"boosters", "streams", "workers", "agents", "away", "problems"} {
		if _, ok := got[list].([]any); !ok {
			t.Errorf("%s is no list: %v", list, got[list])
		}
	}
}

func TestNodes(t *testing.T) {
	s := newStage(t)
	if r := run(t, "", "nodes"); r.code != exitOK || r.stdout != "ROLE  NAME  HOST  PID  VERSION  UP  SEEN\n" {
		t.Errorf("%+v", r)
	}
	wantJSON(t, run(t, "", "nodes", "--json").stdout, `{"nodes":[]}`)
	s.putNode(workerNode("w1", asIs))
	s.putNode(boosterNode("b1"))
	var out strings.Builder
	nodes, err := livingNodes(s.ctx, s.c)
	if err != nil {
		t.Fatal(err)
	}
	if err := (&App{Stdout: &out}).printNodes(nodes, nil, noon.Add(3*time.Second)); err != nil {
		t.Fatal(err)
	}
	want := "ROLE     NAME  HOST        PID  VERSION  UP     SEEN\n" +
		"booster  b1    b1.example  10   v1.0.0   1h30m  3s ago\n" +
		"worker   w1    w1.example  11   v1.0.0   1h30m  3s ago\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

// Whoever looks at the nodes alone reads what is wrong with them, too.
func TestNodesSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	held := agentNode("om1", func(a *bus.AgentState) { a.Drift, a.Held = 5, "it looks like a lost disk" })
	stays := agentNode("om2", func(a *bus.AgentState) {
		a.Stays, a.StaysFirst.Path, a.StaysFirst.Why = 1, "key.pem", "looks like a private key"
	})
	asks := agentNode("om3", func(a *bus.AgentState) { a.PatchState, a.PatchAsks = "waiting: no record", true })
	blind := workerNode("w1", func(w *bus.WorkerState) { w.Database = "has no table omflow_queuedata" })
	active := activeNode("b1", "no automatic takeover: no witness")
	active.Booster.Notes = []string{"no agent can be the witness: om1 runs on the host of Booster b1"}
	var out strings.Builder
	if err := (&App{Stdout: &out}).printNodes([]bus.Node{held, stays, asks, blind, active}, []awayServer{{Name: "om4", Seen: noon}},
		noon); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"agent om1 holds back 5 files that were changed in its home: it looks like a lost disk\n",
		"agent om2: 1 path of its home cannot be carried to other servers: key.pem looks like a private key\n",
		"om3 takes no patch yet, waiting: no record\n",
		"worker w1: database has no table omflow_queuedata\n",
		"om4 does not answer since about ",
		"no automatic takeover: no witness\n",
		"no agent can be the witness: om1 runs on the host of Booster b1\n",
	} {
		if strings.Count(out.String(), want) != 1 {
			t.Errorf("%q is not there once in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "agent om3") {
		t.Errorf("what om3 waits for is said twice in\n%s", out.String())
	}
}

func TestVersion(t *testing.T) {
	r := run(t, "", "version")
	if r.code != exitOK || !strings.HasPrefix(r.stdout, "omflow-booster ") || !strings.Contains(r.stdout, "NATS server 2.") {
		t.Errorf("%+v", r)
	}
	var got versionReport
	if err := json.Unmarshal([]byte(run(t, "", "version", "--json").stdout), &got); err != nil || got.Version == "" ||
		!strings.HasPrefix(got.Go, "go1.") {
		t.Errorf("%v %+v", err, got)
	}
}

func TestStatusExitCodes(t *testing.T) {
	for name, c := range map[string]struct {
		codes  []string
		health string
		exit   int
	}{
		"nothing is wrong":      {nil, healthGood, exitOK},
		"a file is written":     {[]string{codeMoving}, healthGood, exitOK},
		"one Booster is a note": {[]string{"one_booster"}, healthGood, exitOK},
		"something is":          {[]string{"one_booster", "dead_steps"}, healthWarnings, exitWarnings},
		"no majority":           {[]string{codeNoMajority}, healthNone, exitNoService},
		"no stream":             {[]string{"dead_steps", "stream_missing", "no_worker"}, healthNone, exitNoService},
	} {
		var r statusReport
		for _, code := range c.codes {
			r.Problems = append(r.Problems, problem{Code: code})
		}
		r.judge()
		code := exitOK
		var said reported
		if errors.As(r.exit(), &said) {
			code = int(said)
		}
		if r.Health != c.health || code != c.exit {
			t.Errorf("%s: %q, %d", name, r.Health, code)
		}
	}
	useBooster(t, "nats://127.0.0.1:1")
	if r := run(t, "", "status"); r.code != exitNoService || !strings.Contains(r.stderr, "no Booster answers") {
		t.Errorf("%+v", r)
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
			bus.Cluster{live(boosterNode("b1"), there("b2")), live(activeNode("b2", "ok"), there("b1"))},
			"b1 standby, b2 active",
		},
		"between two answers": {
			bus.Cluster{live(activeNode("b1", "ok"), there("b2")), live(activeNode("b2", "ok"), there("b1"))},
			"b1 standby, b2 active",
		},
		"one is frozen": {bus.Cluster{live(activeNode("b2", "ok"), there("b1"))}, "b1 standby, b2 active"},
		"one is dead": {
			bus.Cluster{live(activeNode("b2", "ok"), bus.Member{Name: "b1", Role: bus.ServiceBooster},
				bus.Member{Name: "witness-x", Role: bus.RoleWitness})},
			"b1 silent, b2 active",
		},
	} {
		r := statusReport{Boosters: []bus.Node{activeNode("b1", "ok"), activeNode("b2", "ok")}}
		r.Boosters[1].At = noon.Add(time.Second)
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
