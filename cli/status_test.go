package cli

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
)

// healthy is a report without problems.
func healthy() statusReport {
	return statusReport{diagnosis.Report{
		At: bustest.Noon, Server: "b1",
		Boosters: []bus.Node{bustest.ActiveNode("b1", "ok"), bustest.BoosterNode("b2")},
		Streams: []diagnosis.StreamState{
			{Name: "WORK", Messages: 1234, Bytes: 5 << 20, LimitBytes: 8 << 30, Full: 5. / 8192},
			{Name: "DEAD", LimitBytes: 2 << 30},
			{Name: "PATCH"},
		},
		Work: &diagnosis.WorkState{
			Waiting: 1200, Delivered: 34, Running: 1, Delayed: 33, Redelivered: 2,
			OldestWaiting: &bus.StepInfo{ID: "q1024", Kind: "FormFlow", At: bustest.Noon.Add(-192 * time.Second)},
		},
		Workers: []bus.Node{bustest.WorkerNode("w1", bustest.AsIs)},
		Agents:  []bus.Node{bustest.AgentNode("om1", bustest.AsIs)},
	}}
}

func TestStatusScreen(t *testing.T) {
	t.Parallel()
	r := healthy()
	r.Boosters = []bus.Node{bustest.ActiveNode("b1", "no automatic takeover: no witness"), bustest.BoosterNode("b2")}
	r.Streams[1].Messages = 2
	r.Conclude()
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
  DEAD   2         0 B    2 GiB  0 %
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
	r.Conclude()
	var out strings.Builder
	if err := r.print(&out, false); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "Work: not known") {
		t.Error(out.String())
	}
}

// Everything that status shows comes from the bus and nowhere else.
func TestStatusJSON(t *testing.T) {
	s := newStage(t)
	s.putNode(bustest.BoosterNode("b1"))
	s.putNode(bustest.WorkerNode("w1", bustest.AsIs))
	s.putNode(bustest.AgentNode("om1", bustest.AsIs))
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
	var got diagnosis.Report
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(got.At); d < 0 || d > time.Minute {
		t.Errorf("at %s", got.At)
	}
	for i := range got.Streams {
		got.Streams[i].Bytes, got.Streams[i].LimitBytes, got.Streams[i].Full = 0, 0, 0
	}
	for _, oldest := range []*bus.StepInfo{got.Work.OldestWaiting, got.Work.OldestUnfinished} {
		oldest.At = time.Time{}
	}
	want := diagnosis.Report{
		At: got.At, Server: "booster-1",
		Boosters: []bus.Node{bustest.BoosterNode("b1")},
		Streams: []diagnosis.StreamState{
			{Name: "WORK", Messages: 3}, {Name: "DEAD", Messages: 1}, {Name: "PATCH"}, {Name: "OBJ_PATCHES"}, {Name: "KV_ROLLOUT"},
		},
		Work: &diagnosis.WorkState{
			Waiting: 1, Delivered: 2, Running: 1, Delayed: 1, Dead: 1,
			OldestWaiting:    &bus.StepInfo{ID: "q4", Kind: "FormFlow", Flow: "f1", Ticket: "f1/7", Sequence: 4, Bytes: 90},
			OldestUnfinished: &bus.StepInfo{ID: "q2", Kind: "FormFlow", Flow: "f1", Ticket: "f1/7", Sequence: 2, Bytes: 90},
		},
		Workers:  []bus.Node{bustest.WorkerNode("w1", bustest.AsIs)},
		Agents:   []bus.Node{bustest.AgentNode("om1", bustest.AsIs)},
		Away:     []diagnosis.AwayServer{},
		Waits:    diagnosis.Waits{Rollouts: []diagnosis.WaitingRollout{}, Lost: []diagnosis.LostPatch{}},
		Problems: got.Problems, Health: diagnosis.HealthWarnings,
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
	s.putNode(bustest.WorkerNode("w1", bustest.AsIs))
	s.putNode(bustest.BoosterNode("b1"))
	var out strings.Builder
	nodes, err := diagnosis.LivingNodes(s.ctx, s.c)
	if err != nil {
		t.Fatal(err)
	}
	if err := printNodes(&out, nodes, nil, bustest.Noon.Add(3*time.Second)); err != nil {
		t.Fatal(err)
	}
	want := "ROLE     NAME  HOST        PID  VERSION  UP     SEEN\n" +
		"booster  b1    b1.example  10   v1.0.0   1h30m  3s ago\n" +
		"worker   w1    w1.example  11   v1.0.0   1h30m  3s ago\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

// `nodes` alone also names what is wrong with the nodes.
func TestNodesSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	held := bustest.AgentNode("om1", func(a *bus.AgentState) { a.Drift, a.Held = 5, "it looks like a lost disk" })
	stays := bustest.AgentNode("om2", func(a *bus.AgentState) {
		a.Stays, a.StaysFirst.Path, a.StaysFirst.Why = 1, "key.pem", "looks like a private key"
	})
	asks := bustest.AgentNode("om3", func(a *bus.AgentState) { a.PatchState, a.PatchAsks = "waiting: no record", true })
	blind := bustest.WorkerNode("w1", func(w *bus.WorkerState) { w.Database = "has no table omflow_queuedata" })
	active := bustest.ActiveNode("b1", "no automatic takeover: no witness")
	active.Booster.Notes = []string{"no agent can be the witness: om1 runs on the host of Booster b1"}
	var out strings.Builder
	if err := printNodes(&out, []bus.Node{held, stays, asks, blind, active},
		[]diagnosis.AwayServer{{Name: "om4", Seen: bustest.Noon}},
		bustest.Noon); err != nil {
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
	for health, want := range map[string]int{
		diagnosis.HealthGood: exitOK, diagnosis.HealthWarnings: exitWarnings, diagnosis.HealthNone: exitNoService,
	} {
		code := exitOK
		var said reported
		if errors.As((statusReport{diagnosis.Report{Health: health}}).exit(), &said) {
			code = int(said)
		}
		if code != want {
			t.Errorf("%s: %d, want %d", health, code, want)
		}
	}
	useBooster(t, "nats://127.0.0.1:1")
	if r := run(t, "", "status"); r.code != exitNoService || !strings.Contains(r.stderr, "no Booster answers") {
		t.Errorf("%+v", r)
	}
}
