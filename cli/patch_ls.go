package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// States of an agent that has not reported the end of a patch.
const (
	stateWaiting = "waiting" // it is alive
	stateAway    = "away"    // it is not
)

// listedPatch is a patch as `patch ls --json` and `patch publish --json` print it.
type listedPatch struct {
	patch.Announcement
	Seq   uint64      `json:"seq"`
	Nodes []nodePatch `json:"nodes"`
}

// nodePatch is what became of a patch on a node.
type nodePatch struct {
	Node     string     `json:"node"`
	State    string     `json:"state"`
	Error    string     `json:"error"`
	Finished *time.Time `json:"finished"` // null while waiting
}

func (a *App) patchListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the patches in order, with what became of each on every server",
		Long: "List the patches in the order in which they are applied. NODES groups the agents by what became of the patch\n" +
			"there: applied; failed, for good, see the reasons below the table; skipped, older than what the server has;\n" +
			"retrying; waiting; away, not alive.",
		Example: "  omflow-booster patch ls\n  omflow-booster patch ls --json",
		Args:    noArgs(),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withBus(func(c *bus.Client) error {
			list, err := listPatches(cmd.Context(), c)
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(a.Stdout, map[string]any{"patches": list})
			}
			return a.printPatches(list, time.Now())
		})
	}
	return cmd
}

func listPatches(ctx context.Context, c *bus.Client) ([]listedPatch, error) {
	announced, err := patch.List(ctx, c.JS)
	if err != nil {
		return nil, err
	}
	nodes, err := livingNodes(ctx, c)
	if err != nil {
		return nil, err
	}
	away, err := awayServers(ctx, c, nodes)
	if err != nil {
		return nil, err
	}
	ctx, cancel := ask(ctx)
	defer cancel()
	reports, err := patch.Reports(ctx, c.JS)
	if err != nil {
		return nil, err
	}
	list := make([]listedPatch, 0, len(announced))
	for _, p := range announced {
		list = append(list, listedPatch{Announcement: p, Seq: p.Seq, Nodes: nodesOf(p.Seq, reports[p.ID], nodes, away)})
	}
	return list, nil
}

// nodesOf joins what nodes reported with the living agents that have not, and with those that are away. An agent that is past
// the patch, and has reported nothing, came with it.
func nodesOf(seq uint64, reports []patch.Report, nodes []bus.Node, away []awayServer) []nodePatch {
	list := []nodePatch{}
	reported := make(map[string]bool)
	for _, r := range reports {
		reported[r.Node] = true
		n := nodePatch{Node: r.Node, State: r.State, Error: r.Error, Finished: &r.Finished}
		if !through(r.State) && slices.ContainsFunc(away, func(a awayServer) bool { return a.Name == r.Node }) {
			n.State = stateAway // it was at it
		}
		list = append(list, n)
	}
	for _, n := range nodes {
		if n.Role == bus.ServiceAgent && !reported[n.Name] && (n.Agent == nil || n.Agent.PatchSeq < seq) {
			list = append(list, nodePatch{Node: n.Name, State: stateWaiting, Error: waitsFor(n)})
		}
	}
	for _, n := range away {
		if !reported[n.Name] {
			list = append(list, nodePatch{Node: n.Name, State: stateAway})
		}
	}
	return list
}

// through tells whether a node has nothing more to do with a patch.
func through(state string) bool {
	return state != stateWaiting && state != patch.StateRetrying && state != patch.StateConflict
}

// waitsFor is why an agent takes no patch, if it says so.
func waitsFor(n bus.Node) string {
	if n.Agent == nil {
		return ""
	}
	reason, waits := strings.CutPrefix(n.Agent.PatchState, stateWaiting+": ")
	if !waits {
		return ""
	}
	return reason
}

func (a *App) printPatches(list []listedPatch, now time.Time) error {
	if len(list) == 0 {
		fmt.Fprintln(a.Stdout, "no patch was published yet")
		return nil
	}
	t := newTable(a.Stdout, "PATCH", "AGE", "FROM", "TO", "FILES", "SIZE", "AUTHOR", "NODES", "NOTE")
	for _, p := range list {
		t.row(p.ID, age(now.Sub(p.Created)), p.From, p.To, p.Files+p.Deletions, size(p.Bytes), p.Author, byState(p.Nodes), shorten(p.Note, 40))
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, p := range list {
		for _, n := range p.Nodes {
			if n.Error != "" && n.State != patch.StateSkipped {
				fmt.Fprintf(a.Stdout, "%s %s on %s: %s\n", p.ID, n.State, n.Node, oneLine(n.Error))
			}
		}
	}
	return nil
}

// byState writes nodes grouped by state: "applied a, b; failed c".
func byState(nodes []nodePatch) string {
	var groups []string
	for _, state := range []string{
		patch.StateApplied, patch.StateSkipped, stateWaiting, stateAway, patch.StateRetrying, patch.StateConflict,
		patch.StateRolledBack, patch.StateFailed,
	} {
		var names []string
		for _, n := range nodes {
			if n.State == state {
				names = append(names, n.Node)
			}
		}
		if len(names) > 0 {
			groups = append(groups, state+" "+strings.Join(names, ", "))
		}
	}
	return strings.Join(groups, "; ")
}
