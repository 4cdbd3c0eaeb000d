package omflowtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
)

// Program is the stand-in as a program of its own. Everything is configured by the environment, see Config.
//
//	setup   creates the tables
//	server  is the web process
//	runner  executes steps for a worker: WORKER_RUNNER_COMMAND
//	count   prints a Counts as JSON; the exit code is 1 if something was lost or happened twice
//	env     prints every variable
type Program struct {
	Engines []sqldb.Engine
	Exit    func(code int) // os.Exit
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  *os.File
}

// Main runs one command and returns the exit code: 0 done, 1 failed, 2 wrong usage or configuration.
func (p Program) Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := p.command(ctx, args)
	var wrong *config.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &wrong):
		fmt.Fprintln(p.Stderr, "omflow-standin: "+err.Error())
		return 2
	default:
		fmt.Fprintln(p.Stderr, "omflow-standin: "+err.Error())
		return 1
	}
}

func (p Program) command(ctx context.Context, args []string) error {
	commands := map[string]func(context.Context, Config, *sqldb.DB) error{
		"setup": func(ctx context.Context, _ Config, db *sqldb.DB) error { return Setup(ctx, db) },
		"server": func(ctx context.Context, cfg Config, db *sqldb.DB) error {
			return NewServer(cfg, db, logging.New(cfg.Config, p.Stderr, "omflow"), p.Exit).Run(ctx)
		},
		"runner": func(ctx context.Context, cfg Config, db *sqldb.DB) error {
			db.SetMaxOpenConns(1) // one step at a time needs one
			return NewRunner(cfg, db, p.Exit).Run(ctx, p.Stdin, p.Stdout)
		},
		"count": func(ctx context.Context, _ Config, db *sqldb.DB) error {
			c, err := Count(ctx, db)
			if err != nil {
				return err
			}
			if err := json.NewEncoder(p.Stdout).Encode(c); err != nil {
				return err
			}
			return c.Check()
		},
	}
	if len(args) == 1 && args[0] == "env" {
		return config.Table(p.Stdout, &Config{})
	}
	if len(args) != 1 || commands[args[0]] == nil {
		return &config.Error{Var: "command", Problem: fmt.Sprintf("%q is not known", args), Fix: "use setup, server, runner, count or env"}
	}
	var cfg Config
	if err := config.Load(&cfg); err != nil {
		return err
	}
	db, err := sqldb.Open(ctx, cfg.DatabaseURL, p.Engines)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	return commands[args[0]](ctx, cfg, db)
}
