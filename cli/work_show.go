package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/work"
)

func (a *App) workShowCommand() *cobra.Command {
	return a.showCommand("Print a step that waits or runs, headers and body",
		"  omflow-booster work show q1024", bus.StreamWork, bus.WorkSubject)
}

// showCommand prints one message of WORK or DEAD.
func (a *App) showCommand(short, example, streamName string, subject bus.Subject) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   short,
		Example: example,
		Args:    args(1, 1, "one step: q<row> or o<row>"),
	}
	out := a.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		ids, err := parseIDs(given)
		if err != nil {
			return err
		}
		return a.withBus(func(c *bus.Client) error {
			stream, err := bus.OpenStream(cmd.Context(), c.JS, streamName)
			if err != nil {
				return err
			}
			m, err := bus.FindStep(cmd.Context(), stream, subject, ids[0])
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				return notFound(cmd.Context(), c.JS, streamName, ids[0])
			}
			if err != nil {
				return err
			}
			return firstError(describeDetail(m).print(out, stream.CachedInfo().TimeStamp), out.document(describeDetail(m)))
		})
	}
	return cmd
}

// notFound says where a step is that is not in a stream: people mix up waiting and dead.
func notFound(ctx context.Context, js jetstream.JetStream, streamName string, id work.ID) error {
	here, there, otherStream, otherSubject := "waits or runs", "dead show", bus.StreamDead, bus.Subject(bus.DeadSubject)
	if streamName == bus.StreamDead {
		here, there, otherStream, otherSubject = "is dead", "work show", bus.StreamWork, bus.WorkSubject
	}
	if other, err := bus.OpenStream(ctx, js, otherStream); err == nil {
		if _, err := bus.FindStep(ctx, other, otherSubject, id); err == nil {
			return fmt.Errorf("no step %s %s; try `omflow-booster %s %s`", id, here, there, id)
		}
	}
	return fmt.Errorf("no step %s %s: it is done, or its row was never queued", id, here)
}
