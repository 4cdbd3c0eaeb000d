package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

const (
	killAt  = 0.40 // of all steps
	patchAt = 0.50
)

const timeout = 2 * time.Minute // for everything together; it takes a tenth of that

// playWork shows how a patch and a killed worker are survived. It returns the table of the end, and an error if a count is off.
func playWork(ctx context.Context, st *stage, o options) (shown string, err error) {
	st.out.text(fmt.Sprintf("One Booster, %d OMFLOW Servers, %s recorded queue items of %d tickets, on %s.\n\n",
		serverCount, thousands(o.tickets*omflowtest.Steps), o.tickets, st.db.Engine.Name))
	s := &story{stage: st, tickets: o.tickets}
	r, err := s.tell(ctx)
	if err != nil {
		return "", err
	}
	return r.table(st.in), r.check(o.tickets)
}

// story is what happens, and what was seen of it so far.
type story struct {
	*stage
	tickets int

	began, closed time.Time // first ticket filed, last effect seen
	victim        bus.Node  // the worker that was killed
	back          bool      // its agent has started it again
	published     bool
	applied       []string // servers that have the patch, in the order in which they got it
}

// tell runs the whole demo and returns what came out. Everything is decided in one loop that looks at the database and the bus;
// only the feed runs beside it.
func (s *story) tell(ctx context.Context) (*result, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	s.began = time.Now()
	fed := make(chan error, 1)
	go func() { fed <- feed(ctx, s.in, s.db, s.tickets) }()
	s.out.event("filing tickets at all servers")
	for {
		over, err := s.look(ctx)
		if over {
			return s.count(ctx)
		}
		if err != nil {
			err = fmt.Errorf("look at the work: %w", err)
		}
		if err = errors.Join(s.in.failure(), err); err != nil {
			return nil, errors.Join(err, context.Cause(ctx))
		}
		select {
		case err := <-fed:
			if err != nil {
				return nil, fmt.Errorf("file tickets: %w", err)
			}
			fed = nil // all are filed
		case <-ctx.Done():
			return nil, fmt.Errorf("not over after %s: %w", timeout, context.Cause(ctx))
		case <-time.After(glance):
		}
	}
}

// look sees how far everything is, and does what is due. over means that nothing is left to wait for.
func (s *story) look(ctx context.Context) (over bool, err error) {
	total := s.tickets * omflowtest.Steps
	p, err := omflowtest.CountProgress(ctx, s.db.DB)
	if err != nil {
		return false, err
	}
	if s.closed.IsZero() {
		took := time.Since(s.began)
		s.out.progress(p.Effects, total, float64(p.Effects)/took.Seconds())
		if p.Effects >= total {
			s.closed = time.Now()
			s.out.event("the last ticket is closed")
		}
	}
	if err := s.act(ctx, float64(p.Effects)/float64(total)); err != nil {
		return false, err
	}
	if err := s.follow(ctx); err != nil {
		return false, err
	}
	if s.closed.IsZero() || !s.back || len(s.applied) < serverCount {
		return false, nil
	}
	work, err := s.client.JS.Stream(ctx, bus.StreamWork)
	if err != nil {
		return false, err
	}
	return work.CachedInfo().State.Msgs == 0, nil // the last acks may come a moment after the last effect
}

// act kills a worker and publishes the patch, each when enough steps are done and most are still to come.
func (s *story) act(ctx context.Context, done float64) error {
	switch {
	case done >= killAt && s.victim.PID == 0:
		return s.kill(ctx)
	case done >= patchAt && s.back && !s.published:
		return s.publish(ctx)
	}
	return nil
}

// kill ends a worker the hard way. Not the one that holds the reconciler's lock: the next holder waits until he has seen it
// unchanged for ten seconds, and so would you. Who holds it is asked of the lock, for a heartbeat may be older.
func (s *story) kill(ctx context.Context) error {
	workers, err := s.workers(ctx)
	if err != nil {
		return err
	}
	control, err := s.client.JS.KeyValue(ctx, bus.BucketControl)
	if err != nil {
		return err
	}
	holder := ""
	if lock, err := control.Get(ctx, bus.LockKey(bus.LockReconciler)); err == nil { // nobody may hold it just now
		holder = string(lock.Value())
	}
	i := slices.IndexFunc(workers, func(n bus.Node) bool { return n.Name != holder && n.Worker.Done > 0 }) // one that has had its share
	if i < 0 {
		i = slices.IndexFunc(workers, func(n bus.Node) bool { return n.Name != holder })
	}
	if i < 0 {
		return errors.New("no worker to kill")
	}
	s.victim = workers[i]
	if err := killProcess(s.victim.PID); err != nil {
		return fmt.Errorf("kill worker %s (pid %d): %w", s.victim.Name, s.victim.PID, err)
	}
	s.out.event("kill -9 %d: the worker of %s is gone, with the steps that it was running", s.victim.PID, s.victim.Name)
	return nil
}

// publish makes a patch and publishes it on the first server.
func (s *story) publish(ctx context.Context) error {
	s.published = true
	dir := filepath.Join(s.in.dir, "patch")
	if err := writeVersion(dir, newVersion, "as the patch has it"); err != nil {
		return err
	}
	if _, err := s.in.command(ctx, s.in.servers[0], "patch", "publish", dir); err != nil {
		return err
	}
	s.out.event("patch %s published on %s, for all", newVersion, s.in.servers[0].name)
	return nil
}

// follow reports a worker that is back, and servers that have the patch.
func (s *story) follow(ctx context.Context) error {
	if s.victim.PID != 0 && !s.back {
		workers, err := s.workers(ctx)
		if err != nil {
			return err
		}
		for _, n := range workers {
			if n.Name == s.victim.Name && n.PID != s.victim.PID {
				s.back = true
				s.out.event("%s has started its worker again (pid %d)", n.Name, n.PID)
			}
		}
	}
	if !s.published || len(s.applied) == serverCount {
		return nil
	}
	reports, err := patch.Reports(ctx, s.client.JS)
	if err != nil {
		return err
	}
	for _, list := range reports {
		for _, r := range list {
			switch {
			case r.State == patch.StateFailed || r.State == patch.StateRolledBack:
				return fmt.Errorf("patch failed on %s: %s", r.Node, r.Error)
			case r.State == patch.StateApplied && !slices.Contains(s.applied, r.Node):
				s.applied = append(s.applied, r.Node)
				s.out.event("%s is patched: %s → %s", r.Node, r.From, r.To)
			}
		}
	}
	return nil
}
