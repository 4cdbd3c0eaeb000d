// Package cli is the command line of omflow-booster: the services, and the commands for people.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
)

// Exit codes of every command.
const (
	exitOK     = 0 // done, or a requested stop
	exitFailed = 1 // failed while running
	exitUsage  = 2 // wrong usage or configuration; one line on standard error says which
)

// App is what the commands share.
type App struct {
	Engines []sqldb.Engine // databases that a worker may use
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  *os.File
}

// Product is omflow-booster as people install it.
func Product() *App {
	return &App{Engines: []sqldb.Engine{sqldb.Postgres()}, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
}

// usageError is a wrong command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// reported ends a command that has already said what is wrong with this exit code.
type reported int

func (r reported) Error() string { return "reported" }

// withCode is an error with an exit code of its own.
type withCode struct {
	error
	code int
}

func (e withCode) Unwrap() error { return e.error }

const errReported = reported(exitFailed)

// Main runs one command line and returns the exit code. SIGINT and SIGTERM end the context of the command.
func (a *App) Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var wrongConfig *config.Error
	var wrongUsage usageError
	var said reported
	var coded withCode
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &said):
		return int(said)
	case errors.As(err, &coded):
		fmt.Fprintln(a.Stderr, "omflow-booster: "+err.Error())
		return coded.code
	case errors.As(err, &wrongConfig), errors.As(err, &wrongUsage):
		fmt.Fprintln(a.Stderr, "omflow-booster: "+err.Error())
		return exitUsage
	default:
		fmt.Fprintln(a.Stderr, "omflow-booster: "+err.Error())
		return exitFailed
	}
}

// checkSettings refuses, in every command, a setting that no shell could have meant, whether this command needs it or not:
// those that it reads by itself are never checked twice. The doctor names all that it finds, and whoever looks a variable up
// wants to mend one.
func checkSettings(cmd *cobra.Command, _ []string) error {
	if name := cmd.Name(); name == "doctor" || name == "version" || name == "omflow-booster" || cmd.Flags().Changed("env") {
		return nil
	}
	return config.CheckShape(serviceConfigs()...)
}

func (a *App) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "omflow-booster",
		Short: "Spread the queued steps of OMFLOW forms over many OMFLOW Servers",
		Long: "OMFLOW Booster spreads the queued steps of OMFLOW forms over many OMFLOW Servers and brings a patch\n" +
			"applied to one of them to all the others. Everything is configured by environment variables;\n" +
			"`omflow-booster broker --env` prints those of the Booster.\n\n" +
			"Exit codes: 0 done, 1 failed, 2 wrong usage or a wrong setting. A command that has others says so in its help.",
		Example: "  omflow-booster broker          # on the Booster host\n  omflow-booster agent           # on every OMFLOW Server\n " +
			" omflow-booster status",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q; `omflow-booster help` lists the commands", args[0])}
			}
			return nil
		},
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: checkSettings,
	}
	root.SetIn(a.Stdin)
	root.SetOut(a.Stdout)
	root.SetErr(a.Stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see `%s --help`", err, cmd.CommandPath())}
	})
	root.AddCommand(a.services()...)
	root.AddCommand(a.commands()...)
	return root
}
