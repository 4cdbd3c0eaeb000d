package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

const (
	revertOffers = 2 * time.Second // for agents to say who knows the way back
	revertAnswer = 6 * time.Minute // for one of them to publish it
)

func (a *App) patchRevertCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rollback PATCH",
		Short: "Take a patch back on every server that has it",
		Long: "Take a patch back on every server that has it, one after the other: an agent that may sign has kept the files\n" +
			"that the patch replaced, and publishes them as a new patch. Servers that do not have the patch yet pass it\n" +
			"over. What later patches or hands have changed in the same files is a conflict, so take the newest patch back\n" +
			"first. A database that `--migrate` has changed stays as it is. A second order is answered with the first; to\n" +
			"try again, abort the patch that it published.",
		Example: "  omflow-booster patch rollback 20260131-094500123-k3v7q2mx --note 'the leave form lost its dates'",
		Args:    args(1, 1, "the id of a patch, as `patch ls` shows it"),
	}
	note := cmd.Flags().String("note", "", "why; shown to everybody")
	out := a.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		return a.withBus(func(c *bus.Client) error {
			if len(*note) > patch.MaxNoteBytes {
				return usageError{fmt.Errorf("--note has %d bytes; give at most %d", len(*note), patch.MaxNoteBytes)}
			}
			if _, err := showPatch(cmd.Context(), c, given[0]); err != nil {
				return err
			}
			revert, by, err := revertPatch(cmd.Context(), c, given[0], *note)
			if err != nil {
				return err
			}
			if by == "" || *note != "" && revert.Note != *note { // before this order, or at the same time
				fmt.Fprintf(out, "%s takes %s back already, by order of %s: %s\n", revert.ID, text.OneLine(given[0]), text.OneLine(revert.Author),
					text.OneLine(revert.Note))
				fmt.Fprintf(out, "If it did not reach all servers: `omflow-booster patch resume %s`, or `patch abort %[1]s` and order the "+
					"rollback anew.\n", revert.ID)
			} else {
				fmt.Fprintf(out, "%s takes %s back, with the files of %s.\n", revert.ID, text.OneLine(given[0]), text.OneLine(by))
			}
			fmt.Fprintf(out, "`omflow-booster patch show %s --follow` shows it.\n", revert.ID)
			return out.document(map[string]string{"patch": given[0], "undone_by": revert.ID, "from": by})
		})
	}
	return cmd
}

// revertPatch ends the rollout of a patch and has the agent publish the way back that knows most of it. by is empty if somebody
// has ordered that before.
func revertPatch(ctx context.Context, c *bus.Client, id, note string) (revert patch.Announcement, by string, err error) {
	if revert, _, err = rollout.FindRevert(ctx, c.JS, id); err != nil || revert.ID != "" {
		return revert, "", err
	}
	best, err := bestRevert(ctx, c, id)
	if err != nil {
		return revert, "", err
	}
	order, err := json.Marshal(bus.RevertOrder{By: userName(), Note: note})
	if err != nil {
		return revert, "", err
	}
	if note == "" {
		note = "taken back"
	}
	if err := rollout.Abort(ctx, c.JS, id, userName(), note); err != nil {
		return revert, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, revertAnswer)
	defer cancel()
	reply, err := c.NC.RequestMsgWithContext(ctx, &nats.Msg{
		Subject: bus.RevertBySubject(best.Node), Data: []byte(id), Header: nats.Header{bus.HeaderRevertOrder: {string(order)}},
	})
	if err != nil {
		return revert, "", fmt.Errorf("%s was asked to take %s back: %w", best.Node, id, err)
	}
	if refusal := reply.Header.Get(micro.ErrorHeader); refusal != "" {
		return revert, "", fmt.Errorf("%s did not take %s back: %s", best.Node, id, text.OneLine(refusal))
	}
	return revert, best.Node, json.Unmarshal(reply.Data, &revert)
}

func bestRevert(ctx context.Context, c *bus.Client, id string) (best bus.RevertOffer, err error) {
	wait, cancel := context.WithTimeout(ctx, revertOffers)
	defer cancel()
	err = bus.AskAll(wait, c.NC, bus.RevertSubject, []byte(id), func(answer []byte) bool {
		var o bus.RevertOffer
		if json.Unmarshal(answer, &o) == nil && o.Node != "" && o.Files+o.Deletions > best.Files+best.Deletions {
			best = o
		}
		return false
	})
	if err != nil {
		return best, err
	}
	if best.Node == "" {
		return best, errors.New("no server knows the way back: agents keep it for their last patches, and only where the join file signs. " +
			"Publish the former files as a new patch")
	}
	return best, nil
}
