package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
	"github.com/omflow-booster/omflow-booster/internal/text"
	"github.com/omflow-booster/omflow-booster/worker/outbox"
)

func (a *App) clusterDatabaseCommand() *cobra.Command {
	var use, yes bool
	var out *output
	cmd := &cobra.Command{
		Use:   "database",
		Short: "Show whose steps the Boosters carry, or make them those of another database",
		Long: "Boosters carry the steps of one database, and workers of another one refuse to start. This shows which it is.\n" +
			"--use makes it the one of DATABASE_URL (or of the settings in OMFLOW_HOME) for good, for example because the\n" +
			"former one was given up. Steps of the former one that still wait are dropped here; their rows stay where they\n" +
			"are. No worker of the former one may be alive.\n\n" +
			"A database that was only moved or restored is still the same one: nothing needs to be said then.",
		Example: "  omflow-booster cluster database\n  DATABASE_URL=postgres://omflow:secret@db2/omflow omflow-booster cluster database --use",
		Args:    noArgs(),
	}
	out = a.output(cmd)
	cmd.Flags().BoolVar(&use, "use", false, "make it the database of DATABASE_URL")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if canAsk := isTerminal(a.Stdin) && isTerminal(a.Stderr); use && !yes && !canAsk {
			return usageError{errors.New("--use gives the former database up: add --yes, or run it on a terminal to be asked")}
		}
		return a.withBus(func(c *bus.Client) error {
			if use {
				return a.useDatabase(cmd.Context(), c, yes, out)
			}
			d, _, err := bus.ReadDatabase(cmd.Context(), c.JS)
			if err != nil {
				return err
			}
			return printDatabase(out, d)
		})
	}
	return cmd
}

func printDatabase(out *output, d bus.Database) error {
	if d.ID == "" {
		fmt.Fprintln(out, "The Boosters carry the steps of no database yet: the first worker that starts says which.")
	} else {
		fmt.Fprintf(out, "The Boosters carry the steps of %s\n", text.OneLine(d.String()))
	}
	return out.document(d)
}

func (a *App) useDatabase(ctx context.Context, c *bus.Client, yes bool, out *output) error {
	mine, err := a.ownDatabase(ctx)
	if err != nil {
		return err
	}
	former, revision, err := bus.ReadDatabase(ctx, c.JS)
	if err != nil {
		return err
	}
	if former.ID == mine.ID {
		return printDatabase(out, former)
	}
	nodes, err := diagnosis.LivingNodes(ctx, c)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if n.Worker != nil && n.Worker.DatabaseID != mine.ID {
			return fmt.Errorf("worker %s on %s uses another database than %s: stop it first", text.OneLine(n.Name), text.OneLine(n.Host), mine)
		}
	}
	if former.ID != "" && !yes {
		sure, err := confirm(a.Stdin, a.Stderr, fmt.Sprintf("Give %s up, and carry the steps of %s?", former, mine))
		if err != nil || !sure {
			return firstError(err, errors.New("nothing was changed"))
		}
	}
	if err := bus.WriteDatabase(ctx, c.JS, mine, revision); err != nil {
		return fmt.Errorf("write whose steps the Boosters carry: %w", err)
	}
	return printDatabase(out, mine)
}

// ownDatabase is the one of DATABASE_URL.
func (a *App) ownDatabase(ctx context.Context) (bus.Database, error) {
	if err := adoptSettings(ctx, "DATABASE_URL"); err != nil {
		return bus.Database{}, err
	}
	url := os.Getenv("DATABASE_URL")
	db, err := sqldb.Open(ctx, url, a.Engines)
	if err != nil {
		return bus.Database{}, err
	}
	defer func() { _ = db.Close() }()
	id, err := outbox.New(db).Identity(ctx)
	if err != nil {
		return bus.Database{}, fmt.Errorf("%w; run `omflow-booster migrate` first", err)
	}
	return bus.Database{ID: id.ID, Place: id.Place, URL: sqldb.Shown(url)}, nil
}
