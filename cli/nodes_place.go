package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

func (a *App) placeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "place NODE",
		Short: "Say which patches a server has that does not know it itself",
		Long: "Say which patches the home of a server has, when its agent does not know it: its AGENT_DATA_DIR is new, or it\n" +
			"was away for longer than patches are stored, and no other server that runs has the same files. `status` names\n" +
			"such servers. Nothing is changed by this order itself: the server goes on with the patches that follow.\n\n" +
			"To give it the files of another server instead, stop its agent, empty OMFLOW_HOME and AGENT_DATA_DIR, and\n" +
			"start the agent.",
		Example: "  omflow-booster nodes place server-3 --after 20260131-094500123-k3v7q2mx\n  omflow-booster nodes place server-3 --after none",
		Args:    args(1, 1, "the name of an agent, as `nodes` shows it"),
	}
	after := cmd.Flags().String("after", "", "the last patch that it has, as `patch ls` shows it; none: it has none of those; all: it has all")
	out := a.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		if *after == "" {
			return usageError{errors.New("--after is missing; give the id of a patch, none or all")}
		}
		return a.withBus(func(c *bus.Client) error {
			if err := placeNode(cmd.Context(), c, given[0], *after); err != nil {
				return err
			}
			fmt.Fprintf(out, "%s goes on with the patches that follow\n", text.OneLine(given[0]))
			return out.document(map[string]any{"node": given[0], "after": *after})
		})
	}
	return cmd
}

func placeNode(ctx context.Context, c *bus.Client, node, after string) error {
	if after != bus.PlaceAll && after != bus.PlaceNone {
		if _, err := showPatch(ctx, c, after); err != nil {
			return err
		}
	}
	order, err := json.Marshal(bus.PlaceOrder{After: after})
	if err != nil {
		return err
	}
	ctx, cancel := ask(ctx)
	defer cancel()
	reply, err := c.NC.RequestWithContext(ctx, bus.PlaceBySubject(node), order)
	if err != nil {
		return fmt.Errorf("%s was told where it stands: %w; see `omflow-booster nodes`", text.OneLine(node), err)
	}
	var answer bus.PlaceAnswer
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return fmt.Errorf("answer of %s: %w", text.OneLine(node), err)
	}
	if answer.Error != "" {
		return fmt.Errorf("%s does not take that: %s", text.OneLine(node), text.OneLine(answer.Error))
	}
	return nil
}
