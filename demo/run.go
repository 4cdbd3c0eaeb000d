package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	startLimit = 60 * time.Second
	logLines   = 12 // of each process, when the demo fails
)

// options are what may differ from one demo to the next.
type options struct {
	keep    bool // go on running at the end, and keep the data
	ha      bool // two Boosters, and what they survive
	patch   bool // files that are changed on one of five servers
	tickets int  // not with ha and patch: there, they are filed until it is over
}

// run shows everything and returns an error if a count is off. Whatever happens, processes end and data go, in this order:
// agents with their servers and workers, the Booster, the database, the directory.
func run(ctx context.Context, out *screen, o options) (err error) {
	dir, err := os.MkdirTemp("", "omflow-demo-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer func() {
		switch {
		case o.keep, err != nil && ctx.Err() == nil:
			out.text("Data and logs are in " + dir + "; remove it when you have seen enough.\n")
		default:
			_ = os.RemoveAll(dir)
		}
	}()
	db, err := openDatabase(ctx, dir)
	if err != nil {
		return err
	}
	defer db.close(o.keep)
	sc, play := scope{boosters: 1, servers: serverCount}, playWork
	switch {
	case o.ha:
		sc.boosters, play = 2, playTakeovers
	case o.patch:
		sc.servers, sc.settings, play = patchServers, patchHaste, playPatches
	}
	in, err := install(ctx, dir, db, sc)
	if err != nil {
		return err
	}
	defer in.stop()
	defer out.quiet()

	st := &stage{out: out, in: in, db: db}
	defer st.disconnect()
	shown, err := play(ctx, st, o)
	out.quiet()
	out.text(shown)
	if err != nil {
		if ctx.Err() == nil {
			showLogs(in, out)
		}
		return err
	}
	if o.keep {
		out.text("\nIt goes on running. Ctrl-C ends it.\n")
		<-ctx.Done()
	}
	return nil
}

// showLogs prints the ends of all logs: of the process that failed first, the others say what they saw of it.
func showLogs(in *installation, out *screen) {
	out.quiet()
	for _, p := range in.processes() {
		out.text(fmt.Sprintf("\n--- %s (%s)\n%s\n", p.name, filepath.Base(p.log), p.tail(logLines)))
	}
	out.text("\n")
}
