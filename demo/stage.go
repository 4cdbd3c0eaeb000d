package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
)

const (
	glance    = 150 * time.Millisecond // between two looks at everything
	lookLimit = 2 * time.Second        // of one look

	drainTimeout = 60 * time.Second // until the last ticket is closed
)

// stage is what every story is played on.
type stage struct {
	out    *screen
	in     *installation
	db     *database
	client *bus.Client
}

// start brings everything up and connects to the Boosters, as an operator would.
func (s *stage) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := s.in.startBoosters(); err != nil {
		return err
	}
	var err error
	if s.client, err = bus.Connect(s.in.client(), "demo", zerolog.Nop()); err != nil {
		return err
	}
	if err := s.until(ctx, "the Booster to be ready", func(ctx context.Context) (bool, error) {
		return s.client.WaitReady(ctx) == nil, nil
	}); err != nil {
		return err
	}
	for _, b := range s.in.boosters {
		s.out.event("%s ready at nats://127.0.0.1:%d", b.name, b.port)
	}
	if err := s.in.startAgents(); err != nil {
		return err
	}
	if err := s.until(ctx, "the servers to be ready", func(ctx context.Context) (bool, error) {
		workers, err := s.workers(ctx)
		if err != nil || len(workers) < len(s.in.servers) {
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
	s.out.event("%d servers ready: each an agent, an OMFLOW Server (stand-in, version %s) and a worker with %d slots", len(s.in.servers),
		oldVersion, slots)
	return nil
}

// drained waits until every step is done and the queue is empty.
func (s *stage) drained(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	return s.until(ctx, "every step to be done", func(ctx context.Context) (bool, error) {
		p, err := omflowtest.Count(ctx, s.db.DB)
		if err != nil || p.Effects < p.Tickets*omflowtest.Steps {
			return false, err
		}
		work, err := s.client.JS.Stream(ctx, bus.StreamWork)
		if err != nil {
			return false, err
		}
		return work.CachedInfo().State.Msgs == 0, nil
	})
}

func (s *stage) disconnect() {
	if s.client != nil {
		s.client.Close()
	}
}

// until asks again and again until the answer is yes. It ends early when one of the processes does.
func (s *stage) until(ctx context.Context, what string, done func(ctx context.Context) (bool, error)) error {
	for {
		look, cancel := context.WithTimeout(ctx, lookLimit) // a question that a Booster took with it is never answered
		ok, err := done(look)
		cancel()
		if ok {
			return nil
		}
		if fault := s.in.failure(); fault != nil {
			return fault
		}
		if wait := pause(ctx, glance); wait != nil {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return errors.Join(fmt.Errorf("waited in vain for %s", what), err)
			}
			return wait
		}
	}
}

// workers returns the heartbeats of the living workers.
func (s *stage) workers(ctx context.Context) ([]bus.Node, error) {
	return s.nodes(ctx, bus.ServiceWorker)
}

// nodes returns the heartbeats of a role.
func (s *stage) nodes(ctx context.Context, role string) ([]bus.Node, error) {
	nodes, err := bus.Nodes(ctx, s.client.JS)
	return slices.DeleteFunc(nodes, func(n bus.Node) bool { return n.Role != role }), err
}

// version asks the web process of a server which version it was started with: the home may be newer.
func version(ctx context.Context, s *server) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	return s.web.Version(ctx, http.DefaultClient)
}
