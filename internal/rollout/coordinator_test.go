package rollout

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

const timeout = 30 * time.Second

// site is a bus with nodes that apply one patch after the other; how it ends on a node, a test decides.
type site struct {
	t     *testing.T
	bus   *bustest.Bus
	at    atomic.Int32 // nodes that are at it
	most  atomic.Int32
	mu    sync.Mutex
	turns []string // "<node> <patch>", in the order in which they were taken
	log   zerolog.Logger
}

func (s *site) coordinate(ctx context.Context, alone func() bool) {
	c := &Coordinator{JS: s.bus.Client().JS, Policy: Policy{MaxUnavailable: 1}, Timeout: timeout, Log: s.log, Exclusive: alone}
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	s.t.Cleanup(func() { <-done })
}

// node lives until the test ends and applies these patches.
func (s *site) node(ctx context.Context, name string, end func(patch string) string, patches ...string) (over <-chan struct{}) {
	c := s.bus.Client()
	var next atomic.Value
	next.Store("")
	beats := make(chan struct{})
	go func() {
		defer close(beats)
		_ = bus.Heartbeat(ctx, c.JS, zerolog.Nop(), nil, func() bus.Node {
			state := &bus.AgentState{AgentChildren: bus.AgentChildren{Server: "running"}, PatchNext: next.Load().(string)}
			return bus.Node{Role: bus.ServiceAgent, Name: name, Agent: state}
		})
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, id := range patches {
			next.Store(id)
			if (Turn{JS: c.JS, Patch: id, Node: name, Every: 50 * time.Millisecond}).Wait(ctx, func(string) {}) != nil {
				return
			}
			if n := s.at.Add(1); n > s.most.Load() {
				s.most.Store(n)
			}
			s.mu.Lock()
			s.turns = append(s.turns, name+" "+id)
			s.mu.Unlock()
			bus.Sleep(ctx, 300*time.Millisecond) // longer than it takes another one to notice his turn
			next.Store("")
			s.at.Add(-1)
			now := time.Now()
			_ = patch.PutReport(ctx, c.JS, patch.Report{Patch: id, Node: name, State: end(id), Error: "why", Started: now, Finished: now})
		}
	}()
	s.t.Cleanup(func() { <-done; <-beats })
	return done
}

// all waits until every node is through.
func (s *site) all(nodes []<-chan struct{}) {
	s.t.Helper()
	for _, over := range nodes {
		select {
		case <-over:
		case <-time.After(timeout):
			s.t.Fatal("a node waits for ever")
		}
	}
}

func applied(string) string { return patch.StateApplied }

// Two coordinators that both believe to be the only one still decide as one.
func TestTwoCoordinatorsDecideAsOne(t *testing.T) {
	t.Parallel()
	s := &site{t: t, bus: bustest.New(t, bustest.Layout())}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	for range 2 {
		s.coordinate(ctx, func() bool { return true })
	}
	var nodes []<-chan struct{}
	for i := range 4 {
		nodes = append(nodes, s.node(ctx, fmt.Sprint("n", i), applied, "p1"))
	}
	s.all(nodes)
	cancel()
	require.EqualValues(t, 1, s.most.Load(), "nodes at it at the same time")
	require.Len(t, s.turns, 4)
}

// A coordinator ends in the middle, and another one goes on; one that is not alone decides nothing.
func TestAnotherCoordinatorGoesOn(t *testing.T) {
	t.Parallel()
	s := &site{t: t, bus: bustest.New(t, bustest.Layout())}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	first, stop := context.WithCancel(ctx)
	s.coordinate(first, func() bool { return true })
	var second atomic.Bool
	s.coordinate(ctx, second.Load)
	var nodes []<-chan struct{}
	for i := range 3 {
		nodes = append(nodes, s.node(ctx, fmt.Sprint("n", i), applied, "p1", "p2"))
	}
	require.Eventually(t, func() bool { return s.at.Load() == 1 }, timeout, time.Millisecond)
	stop()
	second.Store(true)
	s.all(nodes)
	cancel()
	require.EqualValues(t, 1, s.most.Load(), "nodes at it at the same time")
	require.Len(t, s.turns, 6)
}

// A plan that is not JSON keeps no other patch waiting, is logged once, and `patch abort` replaces it.
func TestPlanThatCannotBeReadHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	s := &site{t: t, bus: bustest.New(t, bustest.Layout())}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel() // before the cleanups, which wait for what it ends
	js := s.bus.Client().JS
	_, err := js.Publish(ctx, planSubject("p1"), []byte("not JSON"))
	require.NoError(t, err)
	said := make(chan string, 100)
	s.log = zerolog.New(lines(said))
	s.coordinate(ctx, func() bool { return true })
	waits := s.node(ctx, "n0", applied, "p1")
	s.all([]<-chan struct{}{s.node(ctx, "n1", applied, "p2", "p3")})
	mentions := 0
	for len(said) > 0 {
		if line := <-said; strings.Contains(line, "p1") {
			mentions++
			require.Contains(t, line, "omflow-booster patch abort p1 replaces it")
		}
	}
	require.Equal(t, 1, mentions)
	list, err := Waiting(ctx, js)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, [2]string{"p1", StateUnreadable}, [2]string{list[0].Patch, list[0].State})
	require.ErrorIs(t, Pause(ctx, js, "p1", "ann", ""), ErrUnreadable)
	require.NoError(t, Abort(ctx, js, "p1", "ann", "spoilt"))
	s.all([]<-chan struct{}{waits})
	p, _, err := Read(ctx, js, "p1")
	require.NoError(t, err)
	require.Equal(t, [3]string{StateAborted, "ann", "spoilt"}, [3]string{p.State, p.By, p.Reason})
}

// lines takes what a logger writes. What does not fit is lost, so that nobody waits for the test.
type lines chan<- string

func (l lines) Write(line []byte) (int, error) {
	select {
	case l <- string(line):
	default:
	}
	return len(line), nil
}

func TestOperatorDecides(t *testing.T) {
	t.Parallel()
	s := &site{t: t, bus: bustest.New(t, bustest.Layout())}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	js := s.bus.Client().JS
	s.coordinate(ctx, func() bool { return true })
	fails := func(string) string { return patch.StateRolledBack }
	first := s.node(ctx, "n0", fails, "p1")
	<-first
	plan := func(state string) Plan {
		var p Plan
		require.Eventually(t, func() bool {
			var err error
			p, _, err = Read(ctx, js, "p1")
			return err == nil && p.State == state
		}, timeout, 20*time.Millisecond, state)
		return p
	}
	require.Equal(t, "rolled back on n0: why", plan(StateHalted).Reason)
	second := s.node(ctx, "n1", applied, "p1")
	require.NoError(t, Resume(ctx, js, "p1", "ann"))
	<-second
	require.NoError(t, Pause(ctx, js, "p1", "ann", "lunch"))
	third := s.node(ctx, "n2", applied, "p1")
	require.Equal(t, "lunch", plan(StatePaused).Reason)
	require.NoError(t, Abort(ctx, js, "p1", "ann", "it is wrong"))
	<-third // it is told so
	require.ErrorContains(t, Resume(ctx, js, "p1", "ann"), "aborted")
	require.NoError(t, Pause(ctx, js, "p9", "ann", "not yet")) // nobody has asked for it
	fourth := s.node(ctx, "n3", applied, "p9")
	require.Eventually(t, func() bool {
		p, _, err := Read(ctx, js, "p9")
		return err == nil && p.State == StatePaused
	}, timeout, 20*time.Millisecond)
	require.NoError(t, Resume(ctx, js, "p9", "ann"))
	<-fourth
	cancel()
	require.Equal(t, []string{"n0 p1", "n1 p1", "n3 p9"}, s.turns)
}

// A server that publishes its own changes only says that it comes first; the rest is the Booster's policy.
func TestSuggestionIsUnderTheBoostersPolicy(t *testing.T) {
	t.Parallel()
	now := time.Now()
	p := Plan{Patch: "x", Policy: Policy{Canary: "b"}, Standing: Standing{Changed: now}, Grants: map[string]Grant{}}
	require.False(t, p.may("b"))
	running := p.under(Policy{MaxUnavailable: 2, Canary: "a"})
	require.Equal(t, Policy{MaxUnavailable: 2, Canary: "b"}, running.Policy)
	require.Equal(t, StateRunning, running.State)
	require.Equal(t, StateApproval, p.under(Policy{MaxUnavailable: 1, Approval: true}).State)
	p.State = StatePaused
	require.Equal(t, StatePaused, p.under(Policy{MaxUnavailable: 1, Approval: true}).State)
}

// A known server that is silent is away, also for the next coordinator. A forgotten server is not.
func TestRosterOutlivesTheCoordinator(t *testing.T) {
	t.Parallel()
	js := bustest.New(t, bustest.Layout()).Client().JS
	now := time.Now()
	first := roster{}
	require.NoError(t, first.update(t.Context(), js, []Member{{Name: "a", Runs: true}, {Name: "b", Runs: true}, {Name: "no-server"}}, now))
	next := roster{}
	require.NoError(t, next.update(t.Context(), js, []Member{{Name: "a", Runs: true}}, now))
	require.Equal(t, []string{"b"}, next.away([]Member{{Name: "a"}}, now))
	require.Equal(t, []string{"a", "b"}, next.away(nil, now))
	require.Empty(t, next.away(nil, now.Add(awayFor)), "after a day nobody misses it")
	require.NoError(t, Forget(t.Context(), js, "b"))
	require.NoError(t, next.update(t.Context(), js, nil, now.Add(2*time.Minute)))
	require.Equal(t, []string{"a"}, next.away(nil, now))
	list, err := Roster(t.Context(), js)
	require.NoError(t, err)
	require.Len(t, list, 2)
}

// A plan that somebody removes may have waited for approval. The rollout waits until somebody says how it goes on.
func TestPlanThatWasRemovedIsPaused(t *testing.T) {
	t.Parallel()
	s := &site{t: t, bus: bustest.New(t, bustest.Layout())}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel() // before the cleanups, which wait for what it ends
	js := s.bus.Client().JS
	require.NoError(t, Create(ctx, js, "p1", Policy{MaxUnavailable: 1, Approval: true}))
	plans, err := js.KeyValue(ctx, bus.BucketRollout)
	require.NoError(t, err)
	require.NoError(t, plans.Delete(ctx, bus.PlanPrefix+"p1"))
	s.coordinate(ctx, func() bool { return true })
	waits := s.node(ctx, "n0", applied, "p1")
	s.all([]<-chan struct{}{s.node(ctx, "n1", applied, "p2")})
	testkit.Eventually(t, "the plan to be there again", func() bool {
		p, _, err := Read(ctx, js, "p1")
		return err == nil && p.State == StatePaused && p.Reason == "somebody removed its plan from ROLLOUT"
	})
	require.NoError(t, Resume(ctx, js, "p1", "ann"))
	s.all([]<-chan struct{}{waits})
}
