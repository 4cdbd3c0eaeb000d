package cli

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/text"
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
	out := a.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withBus(func(c *bus.Client) error {
			nodes, err := diagnosis.LivingNodes(cmd.Context(), c)
			if err != nil {
				return err
			}
			away, err := diagnosis.AwayServers(cmd.Context(), c, nodes)
			if err != nil {
				return err
			}
			if err := firstError(printNodes(out, nodes, away, time.Now()), out.document(map[string]any{"nodes": nodes})); err != nil {
				return err
			}
			problems, err := diagnosis.PatchProblems(cmd.Context(), c, nodes)
			for _, p := range problems {
				fmt.Fprintf(out, "%s. %s\n", text.OneLine(p.Text), text.OneLine(p.Hint))
			}
			return err
		})
	}
	return cmd
}

// agentLives tells whether the agent of that name is among the living nodes.
func agentLives(nodes []bus.Node, name string) bool {
	return slices.ContainsFunc(nodes, func(n bus.Node) bool { return n.Agent != nil && n.Name == name })
}

func printNodes(out io.Writer, nodes []bus.Node, away []diagnosis.AwayServer, now time.Time) error {
	t := newTable(out, "ROLE", "NAME", "HOST", "PID", "VERSION", "UP", "SEEN")
	for _, n := range nodes {
		t.row(n.Role, n.Name, n.Host, n.PID, n.Version, text.Age(now.Sub(n.Started)), text.Age(now.Sub(n.At))+" ago")
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, n := range nodes {
		if reason := diagnosis.WaitsFor(n); reason != "" {
			fmt.Fprintf(out, "%s takes no patch yet, waiting: %s\n", text.OneLine(n.Name), text.OneLine(reason))
		}
	}
	for _, p := range diagnosis.NodeProblems(nodes, away) {
		fmt.Fprintln(out, text.OneLine(p.Text))
	}
	return nil
}
