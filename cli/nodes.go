package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

func (a *App) nodesCommand() *cobra.Command {
	cmd := a.listNodesCommand("nodes")
	cmd.AddCommand(a.listNodesCommand("ls"), a.showNodeCommand(), a.cordonCommand(), a.uncordonCommand(), a.driftCommand(), a.placeCommand(),
		a.forgetCommand())
	return cmd
}

func (a *App) listNodesCommand(name string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   name,
		Short: "List the Boosters, workers and agents that are alive",
		Long: "List the Boosters, workers and agents that are alive: each writes a heartbeat every few seconds, and one that\n" +
			"stops doing so leaves the list by itself. SEEN compares the clock of the node with the clock of this host.",
		Example: "  omflow-booster nodes\n  omflow-booster nodes --json",
		Args:    noArgs(),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withBus(func(c *bus.Client) error {
			nodes, err := livingNodes(cmd.Context(), c)
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(a.Stdout, map[string]any{"nodes": nodes})
			}
			away, err := awayServers(cmd.Context(), c, nodes)
			if err != nil {
				return err
			}
			return a.printNodes(nodes, away, time.Now())
		})
	}
	return cmd
}

// agentLives tells whether the agent of that name is among the living nodes.
func agentLives(nodes []bus.Node, name string) bool {
	return slices.ContainsFunc(nodes, func(n bus.Node) bool { return n.Agent != nil && n.Name == name })
}

// livingNodes returns the entries of NODES, never nil: JSON shows an empty list as [].
func livingNodes(ctx context.Context, c *bus.Client) ([]bus.Node, error) {
	ctx, cancel := ask(ctx)
	defer cancel()
	nodes, err := bus.Nodes(ctx, c.JS)
	if nodes == nil {
		nodes = []bus.Node{}
	}
	return nodes, err
}

func (a *App) printNodes(nodes []bus.Node, away []awayServer, now time.Time) error {
	t := newTable(a.Stdout, "ROLE", "NAME", "HOST", "PID", "VERSION", "UP", "SEEN")
	for _, n := range nodes {
		t.row(n.Role, n.Name, n.Host, n.PID, n.Version, age(now.Sub(n.Started)), age(now.Sub(n.At))+" ago")
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, n := range nodes {
		if reason := waitsFor(n); reason != "" {
			fmt.Fprintf(a.Stdout, "%s takes no patch yet, waiting: %s\n", oneLine(n.Name), oneLine(reason))
		}
	}
	for _, p := range nodeProblems(nodes, away) {
		fmt.Fprintln(a.Stdout, oneLine(p.Text))
	}
	return nil
}

// nodeProblems are those of `status` that are about the nodes: where the Boosters and the witness are, workers, agents and the servers
// beside them.
func nodeProblems(nodes []bus.Node, away []awayServer) (found []problem) {
	r := statusReport{Away: away}
	for _, n := range nodes {
		switch {
		case n.Booster != nil:
			r.Boosters = append(r.Boosters, n)
		case n.Worker != nil:
			r.Workers = append(r.Workers, n)
		case n.Agent != nil && !n.Agent.PatchAsks: // what an agent waits for is said already
			r.Agents = append(r.Agents, n)
		}
	}
	found = placementProblems(r)
	if len(r.Workers) > 0 { // that there is none shows
		found = append(found, workerProblems(r)...)
	}
	found = append(found, uploadProblems(r)...)
	found = append(found, agentProblems(r)...)
	return append(found, awayProblems(r)...)
}
