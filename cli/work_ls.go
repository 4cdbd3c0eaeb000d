package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

func (a *App) workListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List steps that wait or run, oldest first",
		Long: "List steps that wait or run, oldest first. A step stays in the list until its worker has confirmed its end; the\n" +
			"Booster does not say of a single step whether a worker has it already. `omflow-booster status` has the totals.",
		Example: "  omflow-booster work ls\n  omflow-booster work ls --flow 4f1c… --limit 100 --json",
		Args:    noArgs(),
	}
	var chosen bus.Selection
	var limit int
	selectionFlags(cmd, &chosen)
	limitFlag(cmd, &limit)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkLimit(limit); err != nil {
			return err
		}
		return a.withBus(func(c *bus.Client) error {
			stream, err := bus.OpenStream(cmd.Context(), c.JS, bus.StreamWork)
			if err != nil {
				return err
			}
			list, err := listSteps(cmd.Context(), stream, bus.Subject(bus.WorkSubject).Filter(chosen), limit, bus.DescribeStep)
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(a.Stdout, list)
			}
			return a.printSteps(list, stream.CachedInfo().TimeStamp)
		})
	}
	return cmd
}

// stepList is one page of a stream.
type stepList[S any] struct {
	Steps []S  `json:"steps"`
	More  bool `json:"more"` // there are more than --limit
}

// listSteps reads one page of a stream.
func listSteps[S any](ctx context.Context, stream jetstream.Stream, filter string, limit int,
	describe func(*jetstream.RawStreamMsg) S,
) (stepList[S], error) {
	list := stepList[S]{Steps: []S{}}
	for m, err := range bus.Messages(ctx, stream, filter) {
		if err != nil {
			return list, err
		}
		if len(list.Steps) == limit {
			list.More = true
			break
		}
		list.Steps = append(list.Steps, describe(m))
	}
	return list, nil
}

// printMore says that a page is not all.
func (a *App) printMore(more bool) error {
	if !more {
		return nil
	}
	_, err := fmt.Fprintln(a.Stdout, "… and more: raise --limit, or choose by --flow and --kind")
	return err
}

// printSteps takes the Booster's own clock, so that ages do not depend on the clock of this host.
func (a *App) printSteps(list stepList[bus.StepInfo], now time.Time) error {
	if len(list.Steps) == 0 {
		_, err := fmt.Fprintln(a.Stdout, "No step waits or runs.")
		return err
	}
	t := newTable(a.Stdout, "ID", "KIND", "FLOW", "KEY", "QUEUED", "SIZE")
	for _, s := range list.Steps {
		t.row(s.ID, s.Kind, s.Flow, s.Ticket, text.Age(now.Sub(s.At))+" ago", text.Size(s.Bytes))
	}
	if err := t.flush(); err != nil {
		return err
	}
	return a.printMore(list.More)
}
