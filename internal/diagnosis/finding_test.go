package diagnosis

import (
	"slices"
	"testing"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
)

func TestClockOffset(t *testing.T) {
	t.Parallel()
	const second = time.Second
	for _, c := range []struct{ answered, took, want time.Duration }{
		{0, 0, 0},
		{5 * second, 0, -5 * second},          // the Booster is ahead
		{-5 * second, 2 * second, 6 * second}, // this host is, counted from halfway
		{2 * second, 3 * second, 0},           // the answer may have been written late
	} {
		if got := clockOffset(bustest.Noon, c.took, bustest.Noon.Add(c.answered)); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestDoctorNamesWhyNobodyWouldTakeOver(t *testing.T) {
	t.Parallel()
	if found := judgeTakeover([]bus.Node{bustest.ActiveNode("b1", bus.TakeoverOK)}); len(found) > 0 {
		t.Errorf("all is well, and found %+v", found)
	}
	active := bustest.ActiveNode("b1", "no automatic takeover: no witness")
	active.Booster.Notes = []string{"no agent can be the witness: om1 runs on the host of Booster b1"}
	want := []Finding{
		Warning("takeover", "no automatic takeover: no witness", ""),
		Warning("takeover", "no agent can be the witness: om1 runs on the host of Booster b1", ""),
	}
	if found := judgeTakeover([]bus.Node{active}); !slices.Equal(found, want) {
		t.Errorf("found %+v, want %+v", found, want)
	}
}

func TestDoctorNamesWhatTheAgentsOfThisHostSay(t *testing.T) {
	t.Parallel()
	agent := func(name, host string, stays int) bus.Node {
		return bus.Node{Role: bus.ServiceAgent, Name: name, Host: host, Agent: &bus.AgentState{
			Stays: stays, AgentChanges: bus.AgentChanges{StaysFirst: bus.DriftStay{Path: "all.json", Why: "looks like password hashes"}},
		}}
	}
	far := agent("far", "there", 1)
	if found := judgeAgents("agent", "here", []bus.Node{far}); len(found) > 0 {
		t.Errorf("without an agent here: %+v", found)
	}
	for name, c := range map[string]struct {
		nodes []bus.Node
		want  Finding
	}{
		"nothing": {
			[]bus.Node{far, agent("near", "here", 0)},
			OK("agent", "nothing to look at in the home of its OMFLOW Server"),
		},
		"something": {[]bus.Node{far, agent("near", "here", 2)}, Warning("agent",
			"agent near: 2 paths of its home cannot be carried to other servers: all.json looks like password hashes",
			"See all with `omflow-booster nodes drift near`. Everything else is carried.")},
	} {
		if found := judgeAgents("agent", "here", c.nodes); len(found) != 1 || found[0] != c.want {
			t.Errorf("%s: found %+v, want %+v", name, found, c.want)
		}
	}
}
