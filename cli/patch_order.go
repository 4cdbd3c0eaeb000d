package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

func (a *App) patchPauseCommand() *cobra.Command {
	return a.orderCommand("pause", "Give no further server its turn for a patch", "paused",
		"Give no further server its turn for a patch. A server that is at it finishes. Later patches wait, too.", rollout.Pause)
}

func (a *App) patchAbortCommand() *cobra.Command {
	return a.orderCommand("abort", "End the rollout of a patch where it is, for good", "aborted",
		"End the rollout of a patch where it is, for good: servers that have it keep it, all others pass it over and go on with later patches.",
		rollout.Abort)
}

func (a *App) patchResumeCommand() *cobra.Command {
	return a.orderCommand("resume", "Let a rollout go on that was paused, or halted by failures", "going on",
		"Let a rollout go on that was paused, or halted by failures. Servers on which the patch has failed keep the old version; publish it\n"+
			"again, corrected, for them. A rollout that nobody has approved yet waits for `patch approve`.",
		func(ctx context.Context, js jetstream.JetStream, id, by, _ string) error {
			return rollout.Resume(ctx, js, id, by)
		})
}

func (a *App) patchApproveCommand() *cobra.Command {
	return a.orderCommand("approve", "Approve a patch that was published with --approval", "approved",
		"Approve a patch that was published with --approval, or under BOOSTER_ROLLOUT_APPROVAL: the first server gets its turn. Who "+
			"approved it,\n"+
			"and when, stays with the patch. A rollout that is paused stays so until it is resumed.",
		func(ctx context.Context, js jetstream.JetStream, id, by, _ string) error {
			return rollout.Approve(ctx, js, id, by)
		})
}

// orderCommand is a command that changes a rollout.
func (a *App) orderCommand(name, short, done, long string, give func(ctx context.Context, js jetstream.JetStream, id, by,
	note string) error,
) *cobra.Command {
	cmd := &cobra.Command{
		Use:     name + " PATCH",
		Short:   short,
		Long:    long,
		Example: "  omflow-booster patch " + name + " 20260131-094500123-k3v7q2mx",
		Args:    args(1, 1, "the id of a patch, as `patch ls` shows it"),
	}
	note := ""
	if name == "pause" || name == "abort" {
		cmd.Flags().StringVar(&note, "note", "", "why; shown to everybody")
	}
	out := a.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		return a.withBus(func(c *bus.Client) error {
			p, err := showPatch(cmd.Context(), c, given[0])
			if errors.Is(err, errUnannounced) && isPlanned(cmd.Context(), c, given[0]) {
				err = nil // somebody removed the announcement, and servers may wait with the patch
			}
			if err != nil && !errors.Is(err, rollout.ErrUnreadable) { // what may be ordered then, the order itself knows
				return err
			}
			if p.settled() && p.Rollout != nil && p.Rollout.State == rollout.StateRunning {
				return fmt.Errorf("the rollout of %s is over: every server is through with it. To take it back: omflow-booster patch rollback %s",
					p.ID, p.ID)
			}
			ctx, cancel := ask(cmd.Context())
			defer cancel()
			if err := give(ctx, c.JS, given[0], userName(), note); err != nil {
				return err
			}
			if now, _, err := rollout.Read(ctx, c.JS, given[0]); err == nil && now.State == rollout.StateApproval {
				done = "waits for approval; omflow-booster patch approve " + now.Patch
			}
			fmt.Fprintf(out, "rollout of %s: %s\n", text.OneLine(given[0]), done)
			return out.document(map[string]string{"patch": given[0], "rollout": done})
		})
	}
	return cmd
}

// isPlanned tells whether ROLLOUT has a plan for a patch.
func isPlanned(ctx context.Context, c *bus.Client, id string) bool {
	ctx, cancel := ask(ctx)
	defer cancel()
	_, there, err := rollout.Read(ctx, c.JS, id)
	return err == nil && there
}
