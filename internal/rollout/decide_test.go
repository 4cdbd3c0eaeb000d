package rollout

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/patch"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// fleet is a rollout on servers that do what a test tells them.
type fleet struct {
	t       *testing.T
	plan    Plan
	now     time.Time
	members []Member
	reports map[string]report
	others  int
	away    []string

	revision uint64
}

func newFleet(t *testing.T, policy Policy, nodes ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, now: noon, plan: Next("p", policy, noon), reports: map[string]report{}}
	for _, name := range nodes {
		f.members = append(f.members, Member{Name: name, Next: "p", Serving: true, At: noon})
	}
	return f
}

// step decides once, a second later, and returns who is at it.
func (f *fleet) step() (open []string) {
	f.t.Helper()
	f.now = f.now.Add(time.Second)
	for i := range f.members {
		f.members[i].At = f.now
	}
	f.plan = decide(f.plan, situation{
		now: f.now, members: f.members, away: f.away, reports: f.reports, others: f.others,
		patient: time.Minute,
	})
	again := decide(f.plan, situation{
		now: f.now, members: f.members, away: f.away, reports: f.reports, others: f.others,
		patient: time.Minute,
	})
	require.Equal(f.t, f.plan, again, "a decision that is made twice is one")
	for _, m := range f.members {
		if f.plan.Open(m.Name) {
			open = append(open, m.Name)
		}
	}
	return open
}

func (f *fleet) member(node string) *Member {
	for i := range f.members {
		if f.members[i].Name == node {
			return &f.members[i]
		}
	}
	f.t.Fatal("no member " + node)
	return nil
}

func (f *fleet) report(node, state string) {
	f.revision++
	f.reports[node] = report{patch.Report{Patch: "p", Node: node, State: state, Error: "why"}, f.revision}
	f.member(node).Next = ""
}

func one() Policy { return Policy{MaxUnavailable: 1} }

func TestOneAfterTheOther(t *testing.T) {
	f := newFleet(t, one(), "a", "b", "c")
	for _, node := range []string{"a", "b", "c"} {
		require.Equal(t, []string{node}, f.step())
		f.reports[node] = report{patch.Report{State: patch.StateRetrying}, 100}
		require.Equal(t, []string{node}, f.step(), "who tries again is still at it")
		f.report(node, patch.StateApplied)
	}
	require.Empty(t, f.step())
	require.Equal(t, StateRunning, f.plan.State)
	f.members = append(f.members, Member{Name: "late", Next: "p", Serving: true})
	require.Equal(t, []string{"late"}, f.step())
}

func TestOneIsAtItUntilThePatchHasSucceeded(t *testing.T) {
	f := newFleet(t, Policy{MaxUnavailable: 2, Canary: "c"}, "a", "b", "c", "d")
	require.Equal(t, []string{"c"}, f.step())
	f.report("c", patch.StateSkipped)
	require.Len(t, f.step(), 1, "the canary had nothing to apply: the next one is the first")
	require.Equal(t, []string{"a"}, f.step())
	f.report("a", patch.StateApplied)
	require.Equal(t, []string{"b", "d"}, f.step())
}

// A server that is switched off is without service like one that is patched: nobody gets a turn beyond the limit, and the plan says why.
func TestServerThatIsSwitchedOffCountsAsAway(t *testing.T) {
	f := newFleet(t, one(), "a", "b")
	f.away = []string{"c"}
	require.Empty(t, f.step())
	require.Equal(t, "no answer from c, and 1 may be without service at the same time; "+
		"if it will not come back under that name: omflow-booster nodes forget c", f.plan.Held)
	require.Equal(t, "its turn: "+f.plan.Held, f.plan.why())
	f.member("b").Serving = false
	require.Equal(t, []string{"b"}, f.step(), "a server that does not serve anyway loses nothing")
	f.report("b", patch.StateApplied)
	f.member("b").Serving = true
	f.away = nil
	require.Equal(t, []string{"a"}, f.step())
	require.Empty(t, f.plan.Held)

	f = newFleet(t, Policy{MaxUnavailable: 2}, "a", "b")
	f.away = []string{"c"}
	require.Equal(t, []string{"a"}, f.step())
	f.away = []string{"a", "c"}
	f.members = f.members[1:]
	require.Empty(t, f.step(), "a server that loses power in its turn counts once")
	require.True(t, f.plan.Open("a"))
}

// The plan names the servers that do not answer, and what ends the wait for a server that is gone.
func TestHeldNamesServersThatDoNotAnswer(t *testing.T) {
	for _, c := range []struct {
		silent, without []string
		want            string
	}{
		{nil, []string{"b"}, "b without service, and 2 may be without service at the same time"},
		{[]string{"a"}, []string{"b"}, "b without service, no answer from a, and 2 may be without service at the same time; " +
			"if it will not come back under that name: omflow-booster nodes forget a"},
		{[]string{"a", "c"}, nil, "no answer from a, c, and 2 may be without service at the same time; " +
			"for each that will not come back under its name: omflow-booster nodes forget NAME"},
	} {
		require.Equal(t, c.want, held(c.silent, c.without, 2))
	}
}

func TestCanaryThatIsAwayIsNotWaitedFor(t *testing.T) {
	f := newFleet(t, Policy{MaxUnavailable: 1, Canary: "z"}, "a", "b")
	require.Equal(t, []string{"a"}, f.step())
	f = newFleet(t, Policy{MaxUnavailable: 1, Canary: "b"}, "a", "b")
	f.member("b").Next = "" // fetches it
	require.Empty(t, f.step())
	f.now = f.now.Add(2 * time.Minute)
	require.Equal(t, []string{"a"}, f.step(), "something else keeps it")
	f = newFleet(t, Policy{MaxUnavailable: 1, Canary: "b"}, "a", "b")
	f.member("b").Next = ""
	f.reports["b"] = report{patch.Report{State: patch.StateConflict}, 100}
	require.Equal(t, []string{"a"}, f.step(), "somebody has to say what holds there")
}

func TestFailureHalts(t *testing.T) {
	for _, state := range []string{patch.StateFailed, patch.StateRolledBack} {
		f := newFleet(t, one(), "a", "b", "c")
		f.step()
		f.report("a", patch.StateApplied)
		f.step()
		f.report("b", state)
		require.Empty(t, f.step())
		require.Equal(t, StateHalted, f.plan.State)
		require.Equal(t, state+" on b: why", f.plan.Reason)
		f.plan.State, f.plan.Tolerated = StateRunning, 1 // an operator: go on
		require.Equal(t, []string{"c"}, f.step())
	}
}

func TestFailureOfOneThatCouldNotBeginHaltsToo(t *testing.T) {
	f := newFleet(t, one(), "a", "b")
	f.report("b", patch.StateFailed) // a bad signature, say
	require.Empty(t, f.step())
	require.Equal(t, StateHalted, f.plan.State)
}

func TestSomeFailuresMayBeAllowed(t *testing.T) {
	f := newFleet(t, Policy{MaxUnavailable: 1, MaxFailures: 1}, "a", "b", "c")
	require.Equal(t, []string{"a"}, f.step())
	f.report("a", patch.StateRolledBack)
	require.Equal(t, []string{"b"}, f.step(), "still one: it has not succeeded yet")
	f.report("b", patch.StateRolledBack)
	require.Empty(t, f.step())
	require.Equal(t, StateHalted, f.plan.State)
}

func TestNodeThatHangsDoesNotBlockTheOthers(t *testing.T) {
	f := newFleet(t, one(), "a", "b")
	require.Equal(t, []string{"a"}, f.step())
	f.now = f.now.Add(2 * time.Minute)
	require.Equal(t, []string{"b"}, f.step())
	require.Equal(t, OutcomeGivenUp, f.plan.Grants["a"].Outcome)
	f.report("b", patch.StateApplied)
	require.Empty(t, f.step(), "what it says may be from before")
	f.now = f.now.Add(settled)
	require.Equal(t, []string{"a"}, f.step(), "it is there again and has its turn")
	f.report("a", patch.StateApplied)
	require.Empty(t, f.step())

	f = newFleet(t, one(), "a", "b")
	f.step()
	f.now = f.now.Add(2 * time.Minute)
	f.step()
	f.report("a", patch.StateApplied) // it came through after all
	require.Equal(t, []string{"b"}, f.step())
	require.Equal(t, patch.StateApplied, f.plan.Grants["a"].Outcome)
}

func TestNodeThatMigratesIsNotGivenUp(t *testing.T) {
	f := newFleet(t, one(), "a", "b")
	require.Equal(t, []string{"a"}, f.step())
	f.plan.Migration = Migration{Node: "a", Until: f.now.Add(5 * time.Minute)}
	f.now = f.now.Add(2 * time.Minute)
	require.Equal(t, []string{"a"}, f.step())
	f.now = f.now.Add(3 * time.Minute)
	require.Equal(t, []string{"b"}, f.step(), "its time is over")
	require.Equal(t, OutcomeGivenUp, f.plan.Grants["a"].Outcome)
}

func TestNodeThatWasSetUpAnewHasItsTurnAgain(t *testing.T) {
	f := newFleet(t, one(), "a")
	f.step()
	f.report("a", patch.StateApplied)
	require.Empty(t, f.step())
	f.member("a").Next = "p"
	require.Empty(t, f.step(), "a heartbeat from before")
	f.now = f.now.Add(settled)
	require.Equal(t, []string{"a"}, f.step(), "its old report is not taken for an answer")
	f.report("a", patch.StateApplied)
	require.Empty(t, f.step())
}

func TestTurnThatNobodyTakesIsOver(t *testing.T) {
	f := newFleet(t, one(), "a", "b")
	f.step()
	f.member("a").Next = "another patch"
	require.Equal(t, []string{"a"}, f.step(), "it may not know yet")
	f.now = f.now.Add(settled)
	require.Equal(t, []string{"b"}, f.step())
}

func TestServersThatDoNotServeCount(t *testing.T) {
	f := newFleet(t, one(), "a", "b", "c")
	f.member("b").Serving = false
	require.Equal(t, []string{"b"}, f.step(), "it costs nobody anything")
	f.report("b", patch.StateApplied)
	require.Empty(t, f.step(), "it does not serve yet")
	f.member("b").Serving = true
	require.Equal(t, []string{"a"}, f.step())

	f = newFleet(t, one(), "a", "b")
	f.others = 1 // a node catches up with an older patch
	require.Empty(t, f.step())
}

func TestStatesThatGiveNoTurn(t *testing.T) {
	for _, state := range []string{StateApproval, StatePaused, StateHalted, StateAborted} {
		f := newFleet(t, one(), "a")
		f.plan.State = state
		require.Empty(t, f.step(), state)
		require.Equal(t, state, f.plan.State)
	}
	require.Equal(t, StateApproval, Next("p", Policy{MaxUnavailable: 1, Approval: true}, noon).State)
}

func TestPausedNodeDoesNotBegin(t *testing.T) {
	f := newFleet(t, one(), "a")
	f.step()
	require.True(t, f.plan.may("a"))
	f.plan.State = StatePaused
	require.False(t, f.plan.may("a"))
}

func TestWindows(t *testing.T) {
	for _, c := range []struct {
		text, at string
		open     bool
	}{
		{"", "12:00", true},
		{"22:00-05:00", "22:00", true},
		{"22:00-05:00", "04:59", true},
		{"22:00-05:00", "05:00", false},
		{"22:00-05:00", "12:00", false},
		{"09:00 - 17:30", "17:29", true},
		{"09:00 - 17:30", "08:59", false},
		{"00:00-00:00", "12:00", true},
	} {
		at, err := time.Parse("15:04", c.at)
		require.NoError(t, err)
		w, err := parseWindow(c.text)
		require.NoError(t, err)
		require.Equal(t, c.open, w.open(at), "%s at %s", c.text, c.at)
	}
	for _, text := range []string{"22-5", "22:00", "24:00-05:00", "a-b"} {
		_, err := parseWindow(text)
		require.ErrorContains(t, err, "22:00-05:00", text)
	}
	f := newFleet(t, Policy{MaxUnavailable: 1, Window: "22:00-05:00"}, "a")
	require.Empty(t, f.step())
	f.now = f.now.Add(12 * time.Hour)
	require.Equal(t, []string{"a"}, f.step())
}

// Who comes first, or keeps all others from their turns, fetches a large artifact however many have it already.
func TestWhoIsWaitedForMayFetch(t *testing.T) {
	many := []string{"a", "b", "c", "d", "e", "late"}
	failing := newFleet(t, one(), many...)
	*failing.member("late") = Member{Name: "late", Wants: "p", Serving: false}
	require.Empty(t, failing.step(), "one is without service")
	require.Equal(t, []string{"late"}, failing.plan.Fetch)
	failing.member("late").Wants, failing.member("late").Next = "", "p"
	require.Equal(t, []string{"late"}, failing.step())

	canary := newFleet(t, Policy{MaxUnavailable: 1, Canary: "late"}, many...)
	*canary.member("late") = Member{Name: "late", Wants: "p", Serving: true}
	require.Empty(t, canary.step(), "the canary is waited for")
	require.Equal(t, []string{"late"}, canary.plan.Fetch)
}
