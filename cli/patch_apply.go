package cli

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

func (a *App) patchApplyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Apply a patch to the server of this host, and then to all others, and show how it goes",
		Long: "Publish a FILE of `omflow-booster patch build`, so that the server of this host gets it first and the others\n" +
			"follow, and show it until it is over: exit code 0 if it is applied everywhere or passed over, 1 otherwise.\n" +
			"Interrupting the command does not end the rollout. A file that is put into AGENT_DATA_DIR/inbox does the same.",
		Example: "  omflow-booster patch apply omflow-1.1.5.tar.zst",
		Args:    args(1, 1, "one FILE of `patch build`"),
	}
	node := cmd.Flags().String("node", "", "name of the agent whose server is the first (default: the agent on this host)")
	out := a.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		if info, err := os.Stat(given[0]); err != nil || !info.Mode().IsRegular() {
			return usageError{fmt.Errorf("%s is not a file; `omflow-booster patch build` makes one of a directory", given[0])}
		}
		keys, err := loadJoinFile()
		if err != nil {
			return err
		}
		return a.withBus(func(c *bus.Client) error {
			first, err := localAgent(cmd.Context(), c, *node)
			if err != nil {
				return err
			}
			published, err := a.announcePatch(cmd.Context(), c, given[0], keys, func(id string) error {
				return rollout.Suggest(cmd.Context(), c.JS, id, first)
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "published %s; %s is the first\n", published.ID, text.OneLine(first))
			return a.followPatch(cmd.Context(), c, published.ID, out)
		})
	}
	return cmd
}

// localAgent is the name of the agent on this host, or of the one that is named.
func localAgent(ctx context.Context, c *bus.Client, name string) (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", err
	}
	nodes, err := diagnosis.LivingNodes(ctx, c)
	if err != nil {
		return "", err
	}
	var here []string
	for _, n := range nodes {
		if n.Agent != nil && (n.Name == name || name == "" && n.Host == host) {
			here = append(here, n.Name)
		}
	}
	switch {
	case len(here) == 1:
		return here[0], nil
	case name != "":
		return "", fmt.Errorf("no agent %s is alive; see `omflow-booster nodes`", text.OneLine(name))
	case len(here) == 0:
		return "", fmt.Errorf("no agent is alive on this host (%s); name one with --node, or use `patch publish`", host)
	default:
		return "", fmt.Errorf("several agents are alive on this host: %s; name one with --node", text.OneLine(strings.Join(here, ", ")))
	}
}
