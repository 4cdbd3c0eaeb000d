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
	return listCommand(a, &cobra.Command{
		Short: "List steps that wait or run, oldest first",
		Long: "List steps that wait or run, oldest first. A step stays in the list until its worker has confirmed its end; the\n" +
			"Booster does not say of a single step whether a worker has it already. `omflow-booster status` has the totals.",
		Example: "  omflow-booster work ls\n  omflow-booster work ls --flow 4f1c… --limit 100 --json",
	}, stepLister[bus.StepInfo]{
		stream: bus.StreamWork, subject: bus.WorkSubject, describe: bus.DescribeStep, none: "No step waits or runs.",
		columns: []string{"ID", "KIND", "FLOW", "KEY", "QUEUED", "SIZE"},
		row: func(s bus.StepInfo, now time.Time) []any {
			return []any{s.ID, s.Kind, s.Flow, s.Ticket, text.Age(now.Sub(s.At)) + " ago", text.Size(s.Bytes)}
		},
	})
}

// stepLister lists the steps of one stream.
type stepLister[S any] struct {
	stream   string
	subject  bus.Subject
	describe func(*jetstream.RawStreamMsg) S
	none     string // what people read when there is no step
	columns  []string
	row      func(step S, now time.Time) []any
}

// stepList is one page of a stream.
type stepList[S any] struct {
	Steps []S  `json:"steps"`
	More  bool `json:"more"` // there are more than --limit
}

// listCommand makes `ls` of the steps of a stream out of cmd, which has the texts.
func listCommand[S any](a *App, cmd *cobra.Command, l stepLister[S]) *cobra.Command {
	cmd.Use, cmd.Args = "ls", noArgs()
	var chosen bus.Selection
	var limit int
	selectionFlags(cmd, &chosen)
	limitFlag(cmd, &limit)
	out := a.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkLimit(limit); err != nil {
			return err
		}
		return a.withBus(func(c *bus.Client) error {
			stream, err := bus.OpenStream(cmd.Context(), c.JS, l.stream)
			if err != nil {
				return err
			}
			list, err := l.read(cmd.Context(), stream, chosen, limit)
			if err != nil {
				return err
			}
			return firstError(l.print(out, list, stream.CachedInfo().TimeStamp), out.document(list))
		})
	}
	return cmd
}

func (l stepLister[S]) read(ctx context.Context, stream jetstream.Stream, chosen bus.Selection, limit int) (stepList[S], error) {
	list := stepList[S]{Steps: []S{}}
	for m, err := range bus.Messages(ctx, stream, l.subject.Filter(chosen)) {
		if err != nil {
			return list, err
		}
		if len(list.Steps) == limit {
			list.More = true
			break
		}
		list.Steps = append(list.Steps, l.describe(m))
	}
	return list, nil
}

// print takes the Booster's own clock, so that ages do not depend on the clock of this host.
func (l stepLister[S]) print(out *output, list stepList[S], now time.Time) error {
	if len(list.Steps) == 0 {
		_, err := fmt.Fprintln(out, l.none)
		return err
	}
	t := newTable(out, l.columns...)
	for _, s := range list.Steps {
		t.row(l.row(s, now)...)
	}
	err := t.flush()
	if list.More {
		fmt.Fprintln(out, "… and more: raise --limit, or choose by --flow and --kind")
	}
	return err
}
