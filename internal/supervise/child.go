package supervise

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/process"
)

// errTaken says why a child is not started: its users would be served by a program that nobody supervises, and that nobody updates.
var errTaken = errors.New("another program answers in its place already; end that program, or set the address of the health check to " +
	"the child's own")

// killWait bounds the wait for a process that was killed: the kernel may hold it back, for example in a dead network disk.
const killWait = 10 * time.Second

// Child is one supervised process. Run owns it; the other methods may be called from anywhere.
type Child struct {
	spec Spec
	log  zerolog.Logger

	mu     sync.Mutex
	wanted bool
	status Status
	moved  chan struct{} // closed and replaced whenever wanted or status changes
}

// New returns a child that is not wanted yet.
func New(spec Spec, log zerolog.Logger) *Child {
	return &Child{
		spec:   spec,
		log:    log.With().Str(logging.Child, spec.Name).Logger(),
		status: Status{State: Stopped},
		moved:  make(chan struct{}),
	}
}

// Start makes the child wanted and returns at once.
func (c *Child) Start() { c.change(func() { c.wanted = true }) }

// Stop makes the child unwanted and waits until its processes have ended: asked first, killed after StopTimeout.
// It fails only if they survive even that, or ctx ends.
func (c *Child) Stop(ctx context.Context) error {
	c.change(func() { c.wanted = false })
	ctx, cancel := context.WithTimeout(ctx, c.spec.StopTimeout+2*killWait)
	defer cancel()
	if err := c.wait(ctx, func() bool { return !c.wanted && c.status.PID == 0 && c.status.State == Stopped }); err != nil {
		return fmt.Errorf("stop %s: it has not ended: %w", c.spec.Name, err)
	}
	return nil
}

// WaitRunning waits until the child is ready, or ctx ends.
func (c *Child) WaitRunning(ctx context.Context) error {
	if err := c.wait(ctx, func() bool { return c.status.State == Running }); err != nil {
		s := c.Status()
		if s.Error != "" {
			return fmt.Errorf("%s is %s (%s): %w", c.spec.Name, s.State, s.Error, err)
		}
		return fmt.Errorf("%s is %s: %w", c.spec.Name, s.State, err)
	}
	return nil
}

// Status returns what the child is doing.
func (c *Child) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// Run does what Start and Stop ask for until ctx ends; then it stops the child and returns. It fails only when the child
// cannot be ended: starting it again would make it run twice.
func (c *Child) Run(ctx context.Context) error {
	pause, restart := c.spec.RestartMin, false
	for {
		if !c.waitWanted(ctx) {
			c.change(func() { c.status.State = Stopped })
			return nil
		}
		began := time.Now()
		cause, err := c.once(ctx, restart)
		if err != nil {
			return err
		}
		if cause == nil { // on request
			pause, restart = c.spec.RestartMin, false
			c.change(func() { c.status.State, c.status.PID = Stopped, 0 })
			continue
		}
		if time.Since(began) >= c.spec.RestartMax {
			pause = c.spec.RestartMin
		}
		c.change(func() { c.status.State, c.status.PID, c.status.Error = Failing, 0, cause.Error() })
		c.log.Error().Err(cause).Stringer("again_in", pause).Msg("child ended by itself")
		if c.unwantedWithin(ctx, pause) {
			pause, restart = c.spec.RestartMin, false
		} else {
			pause, restart = min(2*pause, c.spec.RestartMax), true
		}
	}
}

// once runs the process from its start to its end. cause says why it ended by itself, and is nil if that was requested.
// err is final: the process cannot be ended.
func (c *Child) once(ctx context.Context, restart bool) (cause, err error) {
	if c.spec.Ready != nil && c.spec.Ready(ctx) == nil {
		return errTaken, nil
	}
	spec := c.spec
	var said process.Tail
	spec.heard = said.Add
	r, err := startRun(spec, c.log)
	if err != nil {
		return err, nil
	}
	c.change(func() {
		c.status.State, c.status.PID = Starting, r.PID()
		if restart {
			c.status.Restarts++
		}
	})
	c.log.Info().Int(logging.PID, r.PID()).Msg("child started")

	watch, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() { defer close(watched); c.watchReady(watch) }()
	defer func() { cancel(); <-watched }()

	if c.waitEnd(ctx, r) {
		return explain(r.cause(), said.Lines()), nil
	}
	cancel() // what is stopping is not asked whether it is ready
	c.log.Info().Int(logging.PID, r.PID()).Msg("stopping child")
	if err := r.stop(c.spec.StopTimeout); err != nil {
		return nil, fmt.Errorf("stop %s (pid %d): %w", c.spec.Name, r.PID(), err)
	}
	c.log.Info().Int(logging.PID, r.PID()).Msg("child stopped")
	return nil, nil
}

// waitEnd tells whether the process ended by itself; otherwise it is to be stopped.
func (c *Child) waitEnd(ctx context.Context, r *run) bool {
	for {
		c.mu.Lock()
		wanted, moved := c.wanted, c.moved
		c.mu.Unlock()
		if !wanted {
			return false
		}
		select {
		case <-r.done:
			return true
		case <-ctx.Done():
			return false
		case <-moved:
		}
	}
}

// watchReady asks the child whether it is ready until it is, or ctx ends.
func (c *Child) watchReady(ctx context.Context) {
	tick := time.NewTicker(c.spec.ReadyEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if c.spec.Ready != nil && c.spec.Ready(ctx) != nil {
			continue
		}
		c.change(func() {
			if ctx.Err() == nil {
				c.status.State = Running
			}
		})
		return
	}
}

// waitWanted waits for Start; false means that ctx ended.
func (c *Child) waitWanted(ctx context.Context) bool {
	c.change(func() {
		if !c.wanted {
			c.status.State = Stopped
		}
	})
	return c.wait(ctx, func() bool { return c.wanted }) == nil && ctx.Err() == nil
}

// unwantedWithin waits for a pause, and returns true at once if the child is not wanted any more.
func (c *Child) unwantedWithin(ctx context.Context, pause time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, pause)
	defer cancel()
	return c.wait(ctx, func() bool { return !c.wanted }) == nil
}

func (c *Child) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.moved)
	c.moved = make(chan struct{})
}

// wait blocks until cond, which is called with the lock held, becomes true.
func (c *Child) wait(ctx context.Context, cond func() bool) error {
	for {
		c.mu.Lock()
		ok, moved := cond(), c.moved
		c.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-moved:
		}
	}
}
