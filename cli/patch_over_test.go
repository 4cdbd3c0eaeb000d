package cli

import (
	"testing"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

// A rollout after which servers differ is never called complete.
func TestRolloutThatNotEveryServerHasTaken(t *testing.T) {
	t.Parallel()
	p := shownPatch{Rollout: &rollout.Plan{Standing: rollout.Standing{State: rollout.StateRunning}}}
	p.Nodes = []diagnosis.NodePatch{{Node: "srv1", State: patch.StateApplied}, {Node: "srv2", State: diagnosis.StateAway}}
	if got := p.state(); got != "complete" {
		t.Error(got)
	}
	p.Nodes = append(p.Nodes, diagnosis.NodePatch{Node: "srv3", State: patch.StateSkipped, Error: "it is older"})
	if got := p.state(); got != "over, and not on every server: skipped on srv3: it is older" {
		t.Error(got)
	}
}

func TestVersionThatEveryServerWouldPassOver(t *testing.T) {
	t.Parallel()
	nodes := []bus.Node{
		{Name: "srv1", Agent: &bus.AgentState{HomeVersion: "1.1.5.0"}},
		{Name: "srv2", Agent: &bus.AgentState{HomeVersion: "1.1.6.0"}},
	}
	for _, c := range []struct {
		to, reverts string
		refused     bool
	}{{"1.1.4.0", "", true}, {"1.1.4.0", "x", false}, {"1.1.5.0", "", false}, {"1.1.7.0", "", false}, {"", "", false}} {
		if err := checkTo(patch.Manifest{To: c.to, Reverts: c.reverts}, nodes); (err != nil) != c.refused {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
