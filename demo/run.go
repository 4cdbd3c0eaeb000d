package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
)

const (
	patience   = 2 * time.Minute // for everything together; it takes a tenth of that
	startLimit = 30 * time.Second
	logLines   = 12 // of each process, when the demo fails
)

// options are what may differ from one demo to the next.
type options struct {
	keep    bool // go on running at the end, and keep the data
	tickets int
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
	in, err := install(ctx, dir, db)
	if err != nil {
		return err
	}
	defer in.stop()
	defer out.quiet()

	out.text(fmt.Sprintf("One Booster, %d OMFLOW Servers, %s recorded queue items of %d tickets, on %s.\n\n",
		serverCount, thousands(o.tickets*omflowtest.Steps), o.tickets, db.Engine.Name))
	s := &story{out: out, in: in, db: db, tickets: o.tickets}
	defer s.disconnect()
	result, err := s.tell(ctx)
	if err != nil {
		if ctx.Err() == nil {
			showLogs(in, out)
		}
		return err
	}
	out.quiet()
	out.text(result.table(in))
	if err := result.check(o.tickets); err != nil {
		showLogs(in, out)
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

// start brings everything up and connects to the Booster, as an operator would.
func (s *story) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := s.in.startBooster(); err != nil {
		return err
	}
	var err error
	if s.client, err = bus.Connect(bus.ClientConfig{URL: s.in.url()}, "demo", zerolog.Nop()); err != nil {
		return err
	}
	if err := s.until(ctx, "the Booster to be ready", func(ctx context.Context) (bool, error) {
		return s.client.WaitReady(ctx) == nil, nil
	}); err != nil {
		return err
	}
	s.out.event("Booster ready at %s", s.in.url())
	if err := s.in.startAgents(); err != nil {
		return err
	}
	if err := s.until(ctx, "the servers to be ready", func(ctx context.Context) (bool, error) {
		workers, err := s.workers(ctx)
		if err != nil || len(workers) < serverCount {
			return false, err
		}
		for _, server := range s.in.servers {
			if _, err := version(ctx, server); err != nil {
				return false, nil //nolint:nilerr // not up yet
			}
		}
		return true, nil
	}); err != nil {
		return err
	}
	s.out.event("%d servers ready: each an agent, an OMFLOW Server (stand-in, version %s) and a worker with %d slots", serverCount, oldVersion, slots)
	return nil
}

func (s *story) disconnect() {
	if s.client != nil {
		s.client.Close()
	}
}

// until asks again and again until the answer is yes. It ends early when one of the processes does.
func (s *story) until(ctx context.Context, what string, done func(ctx context.Context) (bool, error)) error {
	for {
		ok, err := done(ctx)
		if ok {
			return nil
		}
		if fault := s.in.failure(); fault != nil {
			return fault
		}
		if wait := pause(ctx, glance); wait != nil {
			if errors.Is(wait, context.DeadlineExceeded) {
				return errors.Join(fmt.Errorf("waited in vain for %s", what), err)
			}
			return wait
		}
	}
}
