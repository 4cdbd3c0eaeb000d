package cli

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/agent"
	"github.com/omflow-booster/omflow-booster/broker"
	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
	"github.com/omflow-booster/omflow-booster/internal/supervise"
	"github.com/omflow-booster/omflow-booster/worker"
	"github.com/omflow-booster/omflow-booster/worker/httpexec"
	"github.com/omflow-booster/omflow-booster/worker/outbox"
	"github.com/omflow-booster/omflow-booster/worker/runner"
)

// services are the commands that run until they are stopped.
func (a *App) services() []*cobra.Command {
	return []*cobra.Command{
		a.service("broker", "Run a Booster: the queue of form steps and patches",
			"BOOSTER_IP=10.0.0.5 omflow-booster broker", new(broker.Config), a.runBroker),
		a.service("worker", "Run a worker beside an OMFLOW Server (the agent does this for you)",
			"BOOSTER_IP=10.0.0.5 DATABASE_URL=postgres://omflow:secret@db/omflow omflow-booster worker", new(worker.Config), a.runWorker),
		a.service("agent", "Run an agent: it starts and watches the OMFLOW Server and its worker, and applies patches",
			"BOOSTER_IP=10.0.0.5 OMFLOW_HOME=/opt/omflow/server OMFLOW_COMMAND='python3 manage.py runserver' omflow-booster agent",
			new(agent.Config), a.runAgent),
		a.service("witness", "Run the third vote of two Boosters (an agent does this when it is appointed)",
			"WITNESS_NAME=witness-a1 WITNESS_ADDRESS=10.0.0.7:5169 WITNESS_BOOSTERS=10.0.0.5:5170,10.0.0.6:5170 "+
				"WITNESS_DATA_DIR=/var/lib/witness omflow-booster witness",
			new(broker.WitnessConfig), a.runWitness),
		a.migrateCommand(),
	}
}

// service builds the command of one service; spec is its configuration, which run loads.
func (a *App) service(name, short, example string, spec any, run func(ctx context.Context) error) *cobra.Command {
	var printEnv bool
	cmd := &cobra.Command{
		Use:     name,
		Short:   short,
		Long:    short + ".\n\nIt is configured by environment variables alone; --env lists them.",
		Example: "  " + example + "\n  omflow-booster " + name + " --env",
		Args:    noArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if printEnv {
				return config.Table(a.Stdout, spec)
			}
			return run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&printEnv, "env", false, "print every environment variable with its default and meaning")
	return cmd
}

func (a *App) runBroker(ctx context.Context) error {
	var cfg broker.Config
	if err := config.Load(&cfg); err != nil {
		return err
	}
	b, err := broker.New(cfg, logging.New(cfg.Config, a.Stderr, bus.ServiceBooster))
	if err != nil {
		return err
	}
	return b.Run(ctx)
}

func (a *App) runWitness(ctx context.Context) error {
	var cfg broker.WitnessConfig
	if err := config.Load(&cfg); err != nil {
		return err
	}
	w, err := broker.NewWitness(cfg, logging.New(cfg.Config, a.Stderr, "witness"))
	if err != nil {
		return err
	}
	return w.Run(ctx)
}

func (a *App) runWorker(ctx context.Context) error {
	needed := []string{"DATABASE_URL", "WORKER_UPLOADS"}
	if os.Getenv("BOOSTER_URL") == "" {
		needed = append(needed, "BOOSTER_IP")
	}
	if err := adoptSettings(ctx, needed...); err != nil && os.Getenv("DATABASE_URL") == "" {
		return err
	}
	var cfg worker.Config
	if err := config.Load(&cfg); err != nil {
		return err
	}
	log := logging.New(cfg.Config, a.Stderr, bus.ServiceWorker)
	executor, err := newExecutor(cfg, log)
	if err != nil {
		return err
	}
	db, err := a.openMigrated(ctx, cfg.DatabaseURL, log)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	client, err := bus.Connect(cfg.ClientConfig, "worker "+cfg.Name, log)
	if err != nil {
		return err
	}
	defer client.Close()
	return worker.New(cfg, client, outbox.New(db), executor, log).Run(ctx)
}

// openMigrated opens the database and brings our tables up to date. A database that is away is an error: the worker cannot do
// anything without it, and its service manager starts it again.
func (a *App) openMigrated(ctx context.Context, databaseURL string, log zerolog.Logger) (*sqldb.DB, error) {
	db, err := sqldb.Open(ctx, databaseURL, a.Engines)
	if err != nil {
		return nil, err
	}
	applied, err := db.Migrate(ctx)
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	for _, v := range applied {
		log.Info().Int64("version", v).Msg("database migrated")
	}
	return db, nil
}

func newExecutor(cfg worker.Config, log zerolog.Logger) (worker.Executor, error) {
	if cfg.Executor == "http" {
		return httpexec.New(httpexec.Config{URL: cfg.HTTPURL, Slots: cfg.Slots, StepTimeout: cfg.StepTimeout}, log)
	}
	command := []string{cfg.Python, "-m", "omflow_booster.runner"}
	if cfg.RunnerCommand != "" {
		var err error
		if command, err = supervise.Split(cfg.RunnerCommand, runtime.GOOS == "windows"); err != nil || len(command) == 0 {
			return nil, &config.Error{
				Var: "WORKER_RUNNER_COMMAND", Problem: fmt.Sprintf("cannot be taken apart (%v)", err),
				Fix: "give a program and its arguments as in a shell",
			}
		}
	}
	if cfg.Home != "" {
		if info, err := os.Stat(cfg.Home); err != nil || !info.IsDir() {
			return nil, &config.Error{Var: "OMFLOW_HOME", Problem: cfg.Home + " is not a directory", Fix: "name the directory of the OMFLOW Server"}
		}
	}
	return runner.New(runner.Config{
		Command: command, Dir: cfg.Home, Env: os.Environ(), Size: cfg.Slots, StepTimeout: cfg.StepTimeout,
	}, log)
}

func (a *App) runAgent(ctx context.Context) error {
	if os.Getenv("BOOSTER_URL") == "" {
		if err := adoptSettings(ctx, "BOOSTER_IP"); err != nil {
			fmt.Fprintln(a.Stderr, "the Booster is looked for on this host:", err)
		}
	}
	var cfg agent.Config
	if err := config.Load(&cfg); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	log := logging.New(cfg.Config, a.Stderr, bus.ServiceAgent)
	client, err := bus.Connect(cfg.ClientConfig, "agent "+cfg.Name, log)
	if err != nil {
		return err
	}
	defer client.Close()
	ag, err := agent.New(cfg, agent.Deps{Client: client, WorkerCommand: []string{self, "worker"}, WitnessCommand: []string{self, "witness"}},
		log)
	if err != nil {
		return err
	}
	return ag.Run(ctx)
}

// migrateCommand brings our tables up to date without starting anything.
func (a *App) migrateCommand() *cobra.Command {
	var out *output
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Create or update our tables in the database of DATABASE_URL",
		Long: "Create or update our own tables (omflow_booster_…) in the database of DATABASE_URL. The tables of the OMFLOW\n" +
			"Server are not touched. A worker does the same when it starts; this command is for people who want to see it,\n" +
			"or whose worker has no right to create tables.",
		Example: "  DATABASE_URL=postgres://owner:secret@db/omflow omflow-booster migrate",
		Args:    noArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var cfg struct {
				DatabaseURL string `envconfig:"DATABASE_URL"`
			}
			if err := config.Load(&cfg); err != nil {
				return err
			}
			return a.migrate(cmd.Context(), cfg.DatabaseURL, out)
		},
	}
	out = a.output(cmd)
	return cmd
}

func (a *App) migrate(ctx context.Context, databaseURL string, out *output) error {
	db, err := sqldb.Open(ctx, databaseURL, a.Engines)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	applied, err := db.Migrate(ctx)
	if err != nil {
		return err
	}
	v, err := db.SchemaVersion(ctx)
	if err != nil {
		return err
	}
	if len(applied) == 0 {
		fmt.Fprintf(out, "%s is up to date: version %d\n", sqldb.Shown(databaseURL), v.Current)
	} else {
		fmt.Fprintf(out, "%s: applied %s\n", sqldb.Shown(databaseURL), strings.Trim(fmt.Sprint(applied), "[]"))
	}
	return out.document(map[string]any{"applied": append([]int64{}, applied...), "version": v.Current})
}
