package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

func (a *App) showNodeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show NODE",
		Short:   "Show everything that a Booster, worker or agent says of itself",
		Example: "  omflow-booster nodes show server-3",
		Args:    args(1, 1, "the name of a node, as `nodes` shows it"),
	}
	out := a.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		return a.withBus(func(c *bus.Client) error {
			nodes, err := diagnosis.LivingNodes(cmd.Context(), c)
			if err != nil {
				return err
			}
			nodes = slices.DeleteFunc(nodes, func(n bus.Node) bool { return n.Name != given[0] })
			if len(nodes) == 0 {
				return fmt.Errorf("no node %s is alive; see `omflow-booster nodes`", text.OneLine(given[0]))
			}
			out.json = true                                     // people read it, too
			return out.document(map[string]any{"nodes": nodes}) // an agent and its worker have one name
		})
	}
	return cmd
}

func (a *App) cordonCommand() *cobra.Command {
	note := ""
	cmd := a.cordonOrder("cordon", "Keep the worker of a server from taking steps", "takes no more steps",
		"Keep the worker of a server from taking steps, for example before work on its host. It finishes those that it has. The OMFLOW Server\n"+
			"goes on and queues steps for the other servers, and patches still come.",
		func(ctx context.Context, c *bus.Client, node string) error {
			return bus.SetCordon(ctx, c.JS, node, bus.Cordon{By: userName(), Note: note, At: time.Now()})
		})
	cmd.Flags().StringVar(&note, "note", "", "why; written to the log of the agent")
	return cmd
}

func (a *App) uncordonCommand() *cobra.Command {
	return a.cordonOrder("uncordon", "Let the worker of a server take steps again", "takes steps",
		"Let the worker of a server take steps again.",
		func(ctx context.Context, c *bus.Client, node string) error { return bus.LiftCordon(ctx, c.JS, node) })
}

func (a *App) cordonOrder(name, short, done, long string, give func(ctx context.Context, c *bus.Client, node string) error) *cobra.Command {
	cmd := &cobra.Command{
		Use:     name + " NODE",
		Short:   short,
		Long:    long,
		Example: "  omflow-booster nodes " + name + " server-3",
		Args:    args(1, 1, "the name of an agent, as `nodes` shows it"),
	}
	out := a.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		return a.withBus(func(c *bus.Client) error {
			nodes, err := diagnosis.LivingNodes(cmd.Context(), c)
			if err != nil {
				return err
			}
			if !agentLives(nodes, given[0]) {
				return fmt.Errorf("no agent %s is alive; see `omflow-booster nodes`", text.OneLine(given[0]))
			}
			ctx, cancel := ask(cmd.Context())
			defer cancel()
			if err := give(ctx, c, given[0]); err != nil {
				return err
			}
			fmt.Fprintf(out, "%s %s\n", text.OneLine(given[0]), done)
			return out.document(map[string]any{"node": given[0], "cordoned": name == "cordon"})
		})
	}
	return cmd
}
