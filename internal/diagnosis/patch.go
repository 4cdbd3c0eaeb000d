package diagnosis

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// States of an agent that has not reported the end of a patch.
const (
	StateWaiting = "waiting" // it is alive
	StateAway    = "away"    // it is not
)

// Patch is a patch as `patch ls --json` and `patch publish --json` print it.
type Patch struct {
	patch.Announcement
	Seq   uint64      `json:"seq"`
	Nodes []NodePatch `json:"nodes"`
}

// NodePatch is what became of a patch on a node.
type NodePatch struct {
	Node     string     `json:"node"`
	State    string     `json:"state"`
	Error    string     `json:"error"`
	Finished *time.Time `json:"finished"` // null while waiting
}

// ListPatches returns the published patches in their order, with what became of each on every server.
func ListPatches(ctx context.Context, c *bus.Client) ([]Patch, error) {
	announced, err := patch.List(ctx, c.JS)
	if err != nil {
		return nil, err
	}
	nodes, err := LivingNodes(ctx, c)
	if err != nil {
		return nil, err
	}
	away, err := AwayServers(ctx, c, nodes)
	if err != nil {
		return nil, err
	}
	ctx, cancel := ask(ctx)
	defer cancel()
	reports, err := patch.Reports(ctx, c.JS)
	if err != nil {
		return nil, err
	}
	list := make([]Patch, 0, len(announced))
	for _, p := range announced {
		list = append(list, Patch{Announcement: p, Seq: p.Seq, Nodes: nodesOf(p.Seq, reports[p.ID], nodes, away)})
	}
	return list, nil
}

// nodesOf joins what nodes reported with the living agents that have not, and with those that are away. An agent that is past
// the patch, and has reported nothing, came with it.
func nodesOf(seq uint64, reports []patch.Report, nodes []bus.Node, away []AwayServer) []NodePatch {
	list := []NodePatch{}
	reported := make(map[string]bool)
	for _, r := range reports {
		reported[r.Node] = true
		n := NodePatch{Node: r.Node, State: r.State, Error: r.Error, Finished: &r.Finished}
		if !through(r.State) && slices.ContainsFunc(away, func(a AwayServer) bool { return a.Name == r.Node }) {
			n.State = StateAway // it was at it
		}
		list = append(list, n)
	}
	for _, n := range nodes {
		if n.Role == bus.ServiceAgent && !reported[n.Name] && (n.Agent == nil || n.Agent.PatchSeq < seq) {
			list = append(list, NodePatch{Node: n.Name, State: StateWaiting, Error: WaitsFor(n)})
		}
	}
	for _, n := range away {
		if !reported[n.Name] {
			list = append(list, NodePatch{Node: n.Name, State: StateAway})
		}
	}
	return list
}

// through tells whether a node has nothing more to do with a patch.
func through(state string) bool {
	return state != StateWaiting && state != patch.StateRetrying && state != patch.StateConflict
}

// WaitsFor is why an agent takes no patch, if it says so.
func WaitsFor(n bus.Node) string {
	if n.Agent == nil {
		return ""
	}
	reason, waits := strings.CutPrefix(n.Agent.PatchState, StateWaiting+": ")
	if !waits {
		return ""
	}
	return reason
}

// Over tells whether every living server is through with the patch.
func (p Patch) Over() bool {
	return !slices.ContainsFunc(p.Nodes, func(n NodePatch) bool { return !through(n.State) })
}
