package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

func (a *App) forgetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "forget NODE",
		Short: "Stop waiting for a server that is gone for good",
		Long: "Stop waiting for a server that is gone for good. A server that does not answer counts as one without service,\n" +
			"so a rollout may hold the others back; `status` lists such servers. One that comes back is known again by\n" +
			"itself.",
		Example: "  omflow-booster nodes forget server-3",
		Args:    args(1, 1, "the name of an agent, as `status` shows it"),
	}
	out := a.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		return a.withBus(func(c *bus.Client) error {
			ctx, cancel := ask(cmd.Context())
			defer cancel()
			known, err := rollout.Roster(ctx, c.JS)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(known, func(k rollout.Known) bool { return k.Name == given[0] }) {
				return fmt.Errorf("no server %s is known; see `omflow-booster status`", text.OneLine(given[0]))
			}
			nodes, err := diagnosis.LivingNodes(ctx, c)
			if err != nil {
				return err
			}
			if agentLives(nodes, given[0]) {
				return fmt.Errorf("server %s is alive; stop its agent first", text.OneLine(given[0]))
			}
			if err := rollout.Forget(ctx, c.JS, given[0]); err != nil {
				return err
			}
			fmt.Fprintf(out, "%s is forgotten; a rollout that waits for it goes on within a minute\n", text.OneLine(given[0]))
			return out.document(map[string]any{"node": given[0], "forgotten": true})
		})
	}
	return cmd
}
