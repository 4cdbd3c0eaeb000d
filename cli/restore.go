package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/snapshot"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

func (a *App) restoreCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a backup back",
		Long: "Put a backup back. All of FILE is checked before anything is changed. A Booster that holds messages is left\n" +
			"alone unless --force says that they may go: then every stream of the backup is deleted and replaced, one after\n" +
			"the other. What is not in the backup stays. Interrupted, it goes on where it was when the same command is\n" +
			"given again.\n\n" +
			"Stop the agents first. Steps that were accepted after the backup are not lost: workers queue them again from\n" +
			"the database.",
		Example: "  omflow-booster restore /backup/booster-2026-11-20.tar.zst\n  omflow-booster restore booster.tar.zst --force --yes",
		Args:    args(1, 1, "one FILE"),
	}
	force := cmd.Flags().Bool("force", false, "replace streams that hold messages")
	yes := cmd.Flags().Bool("yes", false, "do not ask")
	out := a.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		src, err := snapshot.OpenFile(given[0])
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return usageError{fmt.Errorf("%s does not exist; give the FILE that `omflow-booster backup` wrote", given[0])}
		case err != nil:
			return fmt.Errorf("restore %s: %w; nothing was changed", given[0], err)
		}
		defer func() { _ = src.Close() }()
		return a.withBus(func(c *bus.Client) error {
			if err := a.mayRestore(cmd.Context(), c, src.Manifest(), *force, *yes); err != nil {
				return err
			}
			return a.restore(cmd.Context(), c, src, restoreOrder{file: given[0], force: *force, out: out})
		})
	}
	return cmd
}

// mayRestore shows the operator what a restore deletes, and asks for consent.
func (a *App) mayRestore(ctx context.Context, c *bus.Client, m snapshot.Manifest, force, yes bool) error {
	targets, err := snapshot.Compare(ctx, c.JS, m)
	if err != nil {
		return err
	}
	var occupied []snapshot.Target
	for _, t := range targets {
		if t.Standing == snapshot.Occupied {
			occupied = append(occupied, t)
		}
	}
	if nodes, err := diagnosis.LivingNodes(ctx, c); err == nil {
		var alive []string
		for _, n := range nodes {
			if n.Role == bus.ServiceWorker || n.Role == bus.ServiceAgent {
				alive = append(alive, n.Role+" "+text.OneLine(n.Name))
			}
		}
		if len(alive) > 0 {
			fmt.Fprintf(a.Stderr, "still running: %s; better stop the agents first, see `omflow-booster restore --help`\n",
				strings.Join(alive, ", "))
		}
	}
	switch {
	case len(occupied) == 0:
		return nil // nothing can get lost
	case !force:
		return fmt.Errorf("this Booster is in use and was left alone: %s; --force would delete these messages and put those of %s in their place",
			listOccupied(occupied), m.Created.Local().Format(time.DateTime))
	case yes:
		return nil
	case !isTerminal(a.Stdin) || !isTerminal(a.Stderr):
		return usageError{fmt.Errorf("restore deletes %s for good: add --yes, or run it on a terminal to be asked", listOccupied(occupied))}
	}
	sure, err := confirm(a.Stdin, a.Stderr, "Delete "+listOccupied(occupied)+" and restore the backup of "+
		m.Created.Local().Format(time.DateTime)+"?")
	if err != nil || !sure {
		return firstError(err, errors.New("nothing was restored"))
	}
	return nil
}

func listOccupied(targets []snapshot.Target) string {
	parts := make([]string, len(targets))
	for i, t := range targets {
		parts[i] = fmt.Sprintf("%s (%s here, %s in the backup)", text.OneLine(t.Stream.Name), text.Counted(t.Messages, "message"),
			text.Count(t.Stream.Messages))
	}
	return strings.Join(parts, ", ")
}

// restoreReport is what was put back.
type restoreReport struct {
	File    string         `json:"file"`
	ID      string         `json:"id"`
	Created time.Time      `json:"created"`
	Done    bool           `json:"done"`
	Streams []streamReport `json:"streams"`
	Error   string         `json:"error,omitempty"`
}

// restoreOrder is what the command line says about a restore.
type restoreOrder struct {
	file  string
	force bool
	out   *output
}

func (a *App) restore(ctx context.Context, c *bus.Client, src snapshot.Source, order restoreOrder) error {
	began, m := time.Now(), src.Manifest()
	progress, end := a.streamProgress("restored")
	started := false
	restored, failure := snapshot.Restore(ctx, c.JS, src, snapshot.RestoreOptions{Force: order.force, Progress: func(p snapshot.Progress) {
		started = true
		if progress != nil {
			progress(p)
		}
	}})
	end()
	switch {
	case failure == nil:
	case started:
		failure = fmt.Errorf("%w; %d of %d streams are done: give the same command again to go on", failure, len(restored), len(m.Streams))
	default:
		failure = fmt.Errorf("restore %s: %w; nothing was changed", order.file, failure)
	}
	report := restoreReport{File: order.file, ID: m.ID, Created: m.Created, Done: failure == nil, Streams: []streamReport{}}
	for _, r := range restored {
		report.Streams = append(report.Streams, reportStream(r.Stream, describeRestored(r)))
	}
	if len(report.Streams) > 0 {
		if err := printStreams(order.out, report.Streams); err != nil {
			return firstError(failure, err)
		}
	}
	if failure == nil {
		fmt.Fprintf(order.out, "backup of %s restored in %s\n", m.Created.Local().Format(time.DateTime), text.Age(time.Since(began)))
	} else {
		report.Error = failure.Error()
	}
	return firstError(failure, order.out.document(report))
}

func describeRestored(r snapshot.Restored) string {
	switch {
	case r.Skipped:
		return "was there already"
	case r.InUse:
		return "restored, in use since"
	default:
		return "restored"
	}
}
