package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/submission"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

// showSubmitted is how many ids are printed for people; JSON has all of them.
const showSubmitted = 20

// progressFrom is the number of items from which a terminal shows how far a submission is.
const progressFrom = 1000

func (a *App) workSubmitCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "submit [FILE|-]",
		Short: "Submit steps from a file or standard input",
		Long: "Submit steps: queue items as JSON, one after the other or in one array. Every item needs name (the kind of queue),\n" +
			"module_name, method_name and input_param. The whole input is checked before anything is sent. A worker gives\n" +
			"every item without a row one in its outbox and answers when it is safe there, so submitting an item twice runs\n" +
			"it twice, unless it carries its own submit_id. After a failure the message says which items were accepted.",
		Example: "  omflow-booster work submit items.jsonl\n" +
			`  echo '{"name":"Mail","module_name":"mail","method_name":"send","input_param":{}}' | omflow-booster work submit -`,
		Args: args(0, 1, "one FILE at most, or - for standard input"),
	}
	var skip int
	cmd.Flags().IntVar(&skip, "skip", 0, "leave out this many items at the start: to go on after a failure")
	out := a.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		if skip < 0 {
			return usageError{fmt.Errorf("--skip %d is negative", skip)}
		}
		items, err := a.readSubmission(given)
		if err != nil {
			return err
		}
		items = items[min(skip, len(items)):]
		c, err := a.dial() // not withBus: what is submitted is safe in the database, with a majority of the Boosters and without
		if err != nil {
			return err
		}
		defer c.Close()
		return a.submit(cmd.Context(), c, items, out)
	}
	return cmd
}

// readSubmission reads and checks all items of the file that is named, or of standard input.
func (a *App) readSubmission(given []string) ([]submission.Item, error) {
	name, in := "standard input", a.Stdin
	switch {
	case len(given) == 1 && given[0] != "-":
		f, err := os.Open(given[0])
		if err != nil {
			return nil, usageError{fmt.Errorf("read items: %w", err)}
		}
		defer func() { _ = f.Close() }() // it was only read
		name, in = given[0], f
	case len(given) == 0 && isTerminal(a.Stdin):
		return nil, usageError{fmt.Errorf("nothing to submit: name a FILE, or pipe items into the command")}
	}
	data, err := io.ReadAll(in)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	items, err := submission.Parse(data)
	if err != nil {
		return nil, usageError{fmt.Errorf("%s: %w; nothing was submitted", name, err)}
	}
	return items, nil
}

// submit sends the items, says what became of them and returns what went wrong.
func (a *App) submit(ctx context.Context, c *bus.Client, items []submission.Item, out *output) error {
	chunks, err := submission.Split(items, c.NC.MaxPayload())
	if err != nil {
		return usageError{fmt.Errorf("%w; nothing was submitted", err)}
	}
	report, failure := submission.Send(ctx, c.NC, chunks, submission.Watcher{
		Progress: a.submitProgress(len(items)),
		Waiting: func(err error, pause time.Duration) {
			fmt.Fprintf(a.Stderr, "omflow-booster: %s; trying again in %s\n", text.OneLine(err.Error()), text.Age(pause))
		},
	})
	if failure == nil || report.Accepted > 0 {
		if err := printSubmitted(out, report); err != nil {
			return firstError(failure, err)
		}
	}
	return firstError(failure, out.document(report))
}

// submitProgress returns what shows progress on a terminal, for submissions that take a while.
func (a *App) submitProgress(total int) func(done int) {
	if total <= progressFrom || !isTerminal(a.Stderr) {
		return func(int) {}
	}
	return func(done int) {
		end := ""
		if done == total {
			end = "\n"
		}
		fmt.Fprintf(a.Stderr, "\r%s of %s submitted%s", text.Count(done), text.Counted(total, "item"), end)
	}
}

func printSubmitted(out io.Writer, r submission.Report) error {
	if len(r.Items) > 0 && len(r.Items) <= showSubmitted {
		t := newTable(out, "ITEM", "LINE", "ID", "STATE")
		for _, item := range r.Items {
			state := "queued"
			if !item.Queued {
				state = "stored, is queued soon"
			}
			t.row(item.Number, item.Line, item.ID, state)
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	summary := text.Counted(r.Accepted, "item") + " accepted"
	if later := r.Accepted - r.Queued; later > 0 {
		summary += fmt.Sprintf(", %s of them stored and queued by a worker as soon as the Booster takes them", text.Count(later))
	}
	_, err := fmt.Fprintln(out, summary+".")
	return err
}

// firstError returns the error that matters more.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
