package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

// Exit codes of `status` beside those of every command.
const (
	exitWarnings  = 3
	exitNoService = 4
)

// statusReport is a report that prints itself for people.
type statusReport struct{ diagnosis.Report }

// watchEvery is how often `status --watch` looks again.
const watchEvery = 2 * time.Second

func (a *App) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show Boosters, work, workers and agents on one screen, and what is wrong",
		Long: "Show Boosters, work, workers and agents on one screen, and at its end what is wrong.\n\n" +
			"Running and what concerns single nodes is what they said in their last heartbeat, some seconds ago at most.\n" +
			"Delayed steps wait for their next try. Exit code 0 means that all is well, 3 that there are warnings, 4 that\n" +
			"no step is taken or queued: no Booster answers, or those that do have no majority. A wrong setting is 2, as\n" +
			"everywhere.",
		Example: "  omflow-booster status\n  omflow-booster status --watch\n  omflow-booster status --json",
		Args:    noArgs(),
	}
	watch := cmd.Flags().Bool("watch", false, "look again every 2 seconds, on a terminal")
	out := a.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *watch {
			if !out.terminal() {
				return usageError{errors.New("--watch needs a terminal and goes without --json")}
			}
			return a.watchStatus(cmd.Context(), out)
		}
		report, err := a.status(cmd.Context())
		if err != nil {
			return err
		}
		return firstError(report.print(out, out.terminal()), out.document(report), report.exit())
	}
	return cmd
}

// status is the report of this moment. No answer ends the command with the code for no service.
func (a *App) status(ctx context.Context) (report statusReport, err error) {
	c, err := a.dial()
	if err == nil {
		defer c.Close()
		report.Report, err = diagnosis.Gather(ctx, c)
		err = diagnosis.ExplainSilence(ctx, c.NC, err)
	}
	var wrong *config.Error
	if err != nil && !errors.As(err, &wrong) && ctx.Err() == nil {
		err = withCode{err, exitNoService}
	}
	return report, err
}

// watchStatus shows one screen after the other until ctx ends, Booster or no Booster.
func (a *App) watchStatus(ctx context.Context, out io.Writer) error {
	const home = "\x1b[H\x1b[2J"
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		var screen bytes.Buffer // whole at once: no flicker
		report, err := a.status(ctx)
		if err == nil {
			err = report.print(&screen, true)
		}
		var wrong *config.Error
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &wrong):
			return err // waiting does not make it right
		case err != nil:
			fmt.Fprintln(&screen, text.OneLine(err.Error()))
		}
		if _, err := fmt.Fprint(out, home, screen.String()); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// print writes the screen. Colours are for terminals.
func (r statusReport) print(w io.Writer, colours bool) error {
	parts := []func(io.Writer) error{r.printBoosters, r.printStreams, r.printWork, r.printWorkers, r.printAgents}
	if slices.ContainsFunc(r.Problems, func(p diagnosis.Problem) bool { return p.Code == diagnosis.CodeNoMajority }) {
		parts = parts[:1] // nobody can tell the rest
	}
	for _, part := range parts {
		if err := part(w); err != nil {
			return err
		}
	}
	for _, p := range r.Problems {
		line := "WARNING: " + text.OneLine(p.Text)
		if p.Severity() == diagnosis.SeverityNote {
			line = "Note: " + text.OneLine(p.Text)
		} else if colours {
			line = "\x1b[1;31m" + line + "\x1b[0m"
		}
		if p.Hint != "" {
			line += "\n         " + text.OneLine(p.Hint)
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// section prints a title, and a table if it has rows.
func section(w io.Writer, title string, columns []string, rows [][]any) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintf(w, "%s: none\n\n", title)
		return err
	}
	if _, err := fmt.Fprintln(w, title); err != nil {
		return err
	}
	t := newTable(w, columns...)
	t.indent = "  "
	for _, row := range rows {
		t.row(row...)
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	return err
}

func (r statusReport) printBoosters(w io.Writer) error {
	var rows [][]any
	for _, n := range r.Boosters {
		b := n.Booster
		if b == nil {
			b = &bus.BoosterState{}
		}
		store := text.Size(b.StoreBytes)
		if b.StoreLimit > 0 {
			store += " of " + text.Size(b.StoreLimit)
		}
		rows = append(rows, []any{n.Name, b.Duty, b.Mode, b.Address, store, b.Sync, n.Version, up(r.At, n)})
	}
	return section(w, "Boosters", []string{"NAME", "DUTY", "MODE", "ADDRESS", "STORE", "SYNC", "VERSION", "UP"}, rows)
}

// up is for how long a node has run; nothing if that is not known.
func up(now time.Time, n bus.Node) string {
	if n.Started.IsZero() {
		return ""
	}
	return text.Age(now.Sub(n.Started))
}

func (r statusReport) printStreams(w io.Writer) error {
	var rows [][]any
	for _, s := range r.Streams {
		limit, full := "none", ""
		if s.LimitBytes > 0 {
			limit = text.Size(s.LimitBytes)
			full = text.Percent(s.Full)
		}
		rows = append(rows, []any{s.Name, text.Count(s.Messages), text.Size(s.Bytes), limit, full})
	}
	return section(w, "Streams", []string{"NAME", "MESSAGES", "BYTES", "LIMIT", "FULL"}, rows)
}

func (r statusReport) printWork(w io.Writer) error {
	if r.Work == nil {
		_, err := fmt.Fprint(w, "Work: not known\n\n")
		return err
	}
	k := r.Work
	oldest := ""
	if k.OldestWaiting != nil {
		oldest = k.OldestWaiting.ID + ", queued " + text.Age(r.At.Sub(k.OldestWaiting.At)) + " ago"
	}
	return section(w, "Work",
		[]string{"WAITING", "RUNNING", "DELAYED", "REDELIVERED", "DEAD", "OLDEST WAITING"},
		[][]any{{text.Count(k.Waiting), text.Count(k.Running), text.Count(k.Delayed), text.Count(k.Redelivered), text.Count(k.Dead), oldest}})
}

func (r statusReport) printWorkers(w io.Writer) error {
	var rows [][]any
	for _, n := range r.Workers {
		s := n.Worker
		if s == nil {
			s = &bus.WorkerState{}
		}
		duty := ""
		if s.Reconciler {
			duty = "reconciler"
		}
		rows = append(rows, []any{
			n.Name, s.Server, s.Executor, fmt.Sprintf("%d/%d", s.Running, s.Slots),
			text.Count(s.Done), text.Count(s.Failed), text.Count(s.Redelivered), text.Shorten(s.Database, errorWidth), duty,
		})
	}
	return section(w, "Workers",
		[]string{"NAME", "SERVER", "EXECUTOR", "RUNNING/SLOTS", "DONE", "FAILED", "REDELIVERED", "DATABASE", "DUTY"}, rows)
}

func (r statusReport) printAgents(w io.Writer) error {
	var rows [][]any
	for _, n := range r.Agents {
		s := n.Agent
		if s == nil {
			s = &bus.AgentState{}
		}
		worker := s.Worker
		if s.Cordoned {
			worker += " (cordoned)"
		}
		rows = append(rows, []any{n.Name, s.HomeVersion, s.Server, worker, s.PatchState, s.Restarts, s.WitnessState})
	}
	return section(w, "Agents", []string{"NAME", "OMFLOW", "SERVER", "WORKER", "PATCHES", "RESTARTS", "WITNESS"}, rows)
}

// exit is how `status` ends, for scripts.
func (r statusReport) exit() error {
	switch r.Health {
	case diagnosis.HealthNone:
		return reported(exitNoService)
	case diagnosis.HealthWarnings:
		return reported(exitWarnings)
	}
	return nil
}
