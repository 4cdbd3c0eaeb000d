package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

func (a *App) patchResolveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resolve PATCH --take patch|server",
		Short: "Say what holds where a server has changed a file that a patch changes, too",
		Long: "Say what holds where a server has changed a file that a patch changes, too. Such a server waits, and takes no\n" +
			"later patch either. With --take patch the patch's file replaces the server's; with --take server the server's\n" +
			"file stays, the rest of the patch is applied, and the file is published for all servers if the agent publishes\n" +
			"changes (AGENT_WATCH). `patch show` and `nodes drift` tell which files. `patch abort` is for a patch that no\n" +
			"server should have.",
		Example: "  omflow-booster patch resolve 20260131-094500123-k3v7q2mx --take patch\n" +
			"  omflow-booster patch resolve 20260131-094500123-k3v7q2mx --take server --node server-3",
		Args: args(1, 1, "the id of a patch, as `patch ls` shows it"),
	}
	take := cmd.Flags().String("take", "", "patch or server: whose file holds")
	node := cmd.Flags().String("node", rollout.Everywhere, "name of the one server that it is said for; * for all")
	out := a.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		if *take != rollout.TakePatch && *take != rollout.TakeServer {
			return usageError{fmt.Errorf("--take is %q; say --take %s or --take %s", *take, rollout.TakePatch, rollout.TakeServer)}
		}
		return a.withBus(func(c *bus.Client) error {
			if _, err := showPatch(cmd.Context(), c, given[0]); err != nil {
				return err
			}
			ctx, cancel := ask(cmd.Context())
			defer cancel()
			if err := rollout.Resolve(ctx, c.JS, given[0], *node, *take); err != nil {
				return err
			}
			fmt.Fprintf(out, "conflicts with %s: the %s's files hold\n", text.OneLine(given[0]), *take)
			return out.document(map[string]string{"patch": given[0], "node": *node, "take": *take})
		})
	}
	return cmd
}
