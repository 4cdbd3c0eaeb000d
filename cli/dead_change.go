package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/deadletter"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

func (a *App) deadRetryCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "retry ID… | --all | --flow F | --kind K",
		Short:   "Queue dead steps again, with all their attempts",
		Example: "  omflow-booster dead retry q1024 q1025\n  omflow-booster dead retry --kind FormFlow",
	}
	target := addTarget(cmd)
	out := a.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		chosen, err := target.search(given)
		if err != nil {
			return err
		}
		return a.withBus(func(c *bus.Client) error {
			queue, err := deadletter.Open(cmd.Context(), c.JS)
			if err != nil {
				return err
			}
			return a.change(cmd.Context(), queue, chosen, queue.Retry, out)
		})
	}
	return cmd
}

func (a *App) deadPurgeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "purge ID… | --all | --flow F | --kind K",
		Short: "Remove dead steps and their rows for good",
		Long: "Remove dead steps for good. The row of a step goes as well, as soon as a worker has time for it: without that the\n" +
			"step would be queued again. There is no way back.",
		Example: "  omflow-booster dead purge q1024\n  omflow-booster dead purge --all --yes",
	}
	yes := cmd.Flags().Bool("yes", false, "do not ask")
	target := addTarget(cmd)
	out := a.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		chosen, err := target.search(given)
		if err != nil {
			return err
		}
		if canAsk := isTerminal(a.Stdin) && isTerminal(a.Stderr); !*yes && !canAsk {
			return usageError{errors.New("purge removes steps for good: add --yes, or run it on a terminal to be asked")}
		}
		return a.withBus(func(c *bus.Client) error {
			queue, err := deadletter.Open(cmd.Context(), c.JS)
			if err != nil {
				return err
			}
			if !*yes {
				sure, err := confirm(a.Stdin, a.Stderr, "Remove "+nameSearch(chosen)+" and the rows of the database for good?")
				if err != nil || !sure {
					return firstError(err, errors.New("nothing was purged"))
				}
			}
			return a.change(cmd.Context(), queue, chosen, queue.Purge, out)
		})
	}
	return cmd
}

// target is the part of a command line that says which dead steps are meant.
type target struct {
	all    bool
	chosen bus.Selection
}

func addTarget(cmd *cobra.Command) *target {
	t := &target{}
	cmd.Flags().BoolVar(&t.all, "all", false, "every dead step")
	selectionFlags(cmd, &t.chosen)
	return t
}

// search refuses a command line that could be understood in two ways: what it removes does not come back.
func (t *target) search(given []string) (deadletter.Search, error) {
	ways := 0
	for _, used := range []bool{len(given) > 0, t.all, t.chosen != bus.Selection{}} {
		if used {
			ways++
		}
	}
	switch {
	case ways == 0:
		return deadletter.Search{}, usageError{errors.New("which steps? name their IDs, or use --flow, --kind or --all")}
	case ways > 1:
		return deadletter.Search{}, usageError{errors.New("name IDs, or use --all, or choose by --flow and --kind: not two of these at once")}
	}
	ids, err := parseIDs(given)
	return deadletter.Search{IDs: ids, Chosen: t.chosen}, err
}

// nameSearch names the steps in a question.
func nameSearch(s deadletter.Search) string {
	switch {
	case len(s.IDs) > 0:
		names := make([]string, len(s.IDs))
		for i, id := range s.IDs {
			names[i] = id.String()
		}
		return "dead " + strings.Join(names, ", ")
	case s.Chosen == bus.Selection{}:
		return "EVERY dead step"
	}
	var parts []string
	if s.Chosen.Kind != "" {
		parts = append(parts, "of kind "+s.Chosen.Kind)
	}
	if s.Chosen.Flow != "" {
		parts = append(parts, "of flow "+s.Chosen.Flow)
	}
	return "every dead step " + strings.Join(parts, " ")
}

// confirm asks a question that only y or yes answers with yes.
func confirm(in io.Reader, out io.Writer, question string) (bool, error) {
	if _, err := fmt.Fprintf(out, "%s [y/N] ", question); err != nil {
		return false, err
	}
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read the answer: %w", err)
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes", nil
}

// changeReport is what became of the steps of one command.
type changeReport struct {
	Done    int                  `json:"done"`
	NotDone int                  `json:"not_done"`
	Steps   []deadletter.Outcome `json:"steps"`
	Error   string               `json:"error,omitempty"` // why the rest was not looked at
}

// change applies do to the steps and reports each. It fails if one of them is not done.
func (a *App) change(ctx context.Context, queue *deadletter.Queue, chosen deadletter.Search, do deadletter.Action, out *output) error {
	report := changeReport{Steps: []deadletter.Outcome{}}
	var failure error
	var moved []string // out of DEAD
	for o, err := range queue.Run(ctx, chosen, do) {
		if err != nil {
			failure = fmt.Errorf("%w (%s done before)", err, text.Counted(report.Done, "step"))
			report.Error = err.Error()
			break
		}
		if o.Done() {
			report.Done++
			moved = append(moved, o.ID)
		} else {
			report.NotDone++
		}
		report.Steps = append(report.Steps, o)
		fmt.Fprintln(out, text.OneLine(outcomeLine(o)))
	}
	if err := queue.Moved(ctx, moved); err != nil {
		fmt.Fprintln(a.Stderr, "the rows are looked at later:", err)
	}
	if failure == nil && len(report.Steps) == 0 {
		fmt.Fprintln(out, "No dead step.")
	}
	if err := out.document(report); err != nil {
		return err
	}
	if failure == nil && report.NotDone > 0 {
		return errReported
	}
	return failure
}

// outcomeLine is the line that people see.
func outcomeLine(o deadletter.Outcome) string {
	text := o.ID + " " + strings.ReplaceAll(o.Result, "_", " ")
	if o.Detail != "" {
		text += ": " + o.Detail
	}
	return text
}
