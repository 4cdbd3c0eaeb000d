// Command demo shows the product at work on one machine that has nothing but Go: a Booster, three OMFLOW Servers, 4,000 real
// queue items, a worker killed with -9, and a patch that goes from one server to all.
//
//	go run ./demo           takes some fifteen seconds and leaves nothing behind
//	go run ./demo --ha      two Boosters and a witness, killed, frozen and stopped one after the other: some two minutes
//	go run ./demo --patch   files changed by hand on one of five servers reach all, or are rolled back; a new host gets them: a minute
//	go run ./demo --keep    goes on running afterwards, to look inside
//	DATABASE_URL=postgres://… go run ./demo    in that database, in a schema of its own, instead of a SQLite file
//
// Everything is a real process: the demo starts itself again as the product, with SQLite as one more database, and as the
// stand-in OMFLOW Server. The exit code is 1 if any count is not what it must be.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/omflow-booster/omflow-booster/cli"
	"github.com/omflow-booster/omflow-booster/demo/sqlite"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
)

// standIn is the first argument of a process that is the stand-in OMFLOW Server. Any other word is a command of the product.
const standIn = "stand-in"

func main() {
	args := os.Args[1:]
	switch {
	case len(args) > 0 && args[0] == standIn:
		os.Exit(omflowtest.Program{Engines: engines(), Exit: os.Exit, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}.Main(args[1:]))
	case len(args) > 0 && args[0][0] != '-':
		app := cli.Product()
		app.Engines = engines()
		os.Exit(app.Main(args))
	default:
		os.Exit(demo(args))
	}
}

func engines() []sqldb.Engine { return []sqldb.Engine{sqldb.Postgres(), sqlite.Engine()} }

func demo(args []string) int {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	keep := flags.Bool("keep", false, "go on running when the demo is over, until Ctrl-C, and keep the data")
	ha := flags.Bool("ha", false, "show two Boosters: planned stop, kill -9, freezing and the death of everything, with the time without "+
		"a write")
	patches := flags.Bool("patch", false, "show five servers: files changed by hand on one reach all, a change that fails is taken back, "+
		"a new host gets its files")
	switch err := flags.Parse(args); {
	case err == flag.ErrHelp: //nolint:errorlint // never wrapped
		return 0
	case err != nil:
		return 2
	case *ha && *patches:
		fmt.Fprintln(os.Stderr, "demo: --ha and --patch are two stories; show one after the other")
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, newScreen(os.Stdout), options{
		keep: *keep, ha: *ha, patch: *patches,
		tickets: omflowtest.Recorded().Len(),
	}); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("stopped")
		}
		fmt.Fprintln(os.Stderr, "demo: "+err.Error())
		return 1
	}
	return 0
}
