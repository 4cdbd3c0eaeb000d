// Package runner executes steps in long-lived child processes that speak JSON lines over standard input and output.
//
// A step that crashes takes one process with it and costs one attempt of itself; the worker and the other steps go on.
// Python steps use every core, because each process has an interpreter of its own. The protocol is written down in
// worker/DESIGN.md, section "Runner protocol", so that a runner can be written in any language.
//
//	             ready message          taken by Execute
//	starting ───────────────────▶ free ◀────────────────▶ busy
//	   │ exit, StartTimeout         │ exit                  │ exit, recycle, step timeout, lease passed, ctx ended
//	   ▼                            ▼                       ▼
//	  gone ──── a new process, after a pause if the old one answered no step ────▶ starting
//
// Failure rules:
//   - nothing ran (no free runner, or it took no input): worker.ErrNotStarted, no attempt is counted;
//   - the runner died, or did not end in StepTimeout: a plain error, one attempt;
//   - the lease passed: the runner is killed and the error is worker.ErrLeaseLost;
//   - the runner says so: worker.ErrPermanent or *worker.RetryAfter.
package runner

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/worker"
)

// Defaults of Config.
const (
	DefaultStartTimeout = 60 * time.Second
	DefaultStopTimeout  = 10 * time.Second
)

// Pause before a runner is started again that ended without having answered a step: doubles from first to longest.
const (
	firstPause   = 250 * time.Millisecond
	longestPause = 30 * time.Second
)

// Config of a Pool.
type Config struct {
	Command []string // program and arguments
	Dir     string   // working directory of the runners; empty: the worker's own
	Env     []string // NAME=value, in addition to the worker's environment
	Size    int      // number of runners, and so of steps at the same time

	StepTimeout  time.Duration // a step that runs longer is ended and counts as failed
	StartTimeout time.Duration // for a runner to become ready, and for a step to get a free one; 0: DefaultStartTimeout
	StopTimeout  time.Duration // between the end of a runner's standard input and its being killed; 0: DefaultStopTimeout
}

// Pool keeps runners and executes steps in them. It implements worker.Executor.
type Pool struct {
	cfg Config
	log zerolog.Logger

	free    chan *child // unbuffered: only a runner that lives is ever handed over
	ready   chan struct{}
	stopped chan struct{}

	mu        sync.Mutex
	isReady   bool
	lastStart error // why the last start failed, nil after one that did not
}

// New returns a pool that does nothing until Run. It returns a *config.Error for a wrong setting.
func New(cfg Config, log zerolog.Logger) (*Pool, error) {
	if len(cfg.Command) == 0 || cfg.Command[0] == "" {
		return nil, &config.Error{Var: "WORKER_RUNNER_COMMAND", Problem: "no program", Fix: "unset it for the default"}
	}
	if err := config.Between("WORKER_SLOTS", cfg.Size, 1, 1<<20); err != nil {
		return nil, err
	}
	if err := config.Positive("WORKER_STEP_TIMEOUT", cfg.StepTimeout); err != nil {
		return nil, err
	}
	if cfg.StartTimeout <= 0 {
		cfg.StartTimeout = DefaultStartTimeout
	}
	if cfg.StopTimeout <= 0 {
		cfg.StopTimeout = DefaultStopTimeout
	}
	return &Pool{
		cfg:     cfg,
		log:     log,
		free:    make(chan *child),
		ready:   make(chan struct{}),
		stopped: make(chan struct{}),
	}, nil
}

// Ready is closed when the first runner is ready.
func (p *Pool) Ready() <-chan struct{} { return p.ready }

// Run keeps Size runners alive until ctx ends, then ends them, busy ones included, and returns nil. Call it once.
func (p *Pool) Run(ctx context.Context) error {
	defer close(p.stopped)
	var slots sync.WaitGroup
	for i := range p.cfg.Size {
		slots.Go(func() { p.maintain(ctx, "runner-"+strconv.Itoa(i+1)) })
	}
	slots.Wait()
	return nil
}

// Execute runs one step in the next free runner. See the package comment for its errors.
func (p *Pool) Execute(ctx context.Context, s worker.Step) error {
	r, err := p.take(ctx, s.Lease)
	if err != nil {
		return fmt.Errorf("%w: %w", worker.ErrNotStarted, err)
	}
	keep, err := r.execute(ctx, s, p.cfg.StepTimeout)
	r.released <- keep
	return err
}

// take waits for a free runner. It is bounded, because a lease is renewed for as long as we wait: if no runner starts
// here, another worker shall have the step.
func (p *Pool) take(ctx context.Context, lease *worker.Lease) (*child, error) {
	timer := time.NewTimer(p.cfg.StartTimeout)
	defer timer.Stop()
	for {
		select {
		case r := <-p.free:
			if !r.isGone() {
				return r, nil
			}
			r.released <- false
		case <-ctx.Done():
			if !lease.Valid() {
				return nil, fmt.Errorf("no runner was free: %w", worker.ErrLeaseLost)
			}
			return nil, fmt.Errorf("no runner was free: %w", context.Cause(ctx))
		case <-p.stopped:
			return nil, errors.New("the runners are stopped")
		case <-timer.C:
			if err := p.startError(); err != nil {
				return nil, fmt.Errorf("no runner within %s: %w", p.cfg.StartTimeout, err)
			}
			return nil, fmt.Errorf("no runner was free within %s", p.cfg.StartTimeout)
		}
	}
}

// maintain keeps one runner alive: the same name, one process after the other.
func (p *Pool) maintain(ctx context.Context, name string) {
	log := p.log.With().Str(logging.Child, name).Logger()
	useless := 0 // processes in a row that answered no step
	for {
		useful, err := p.serve(ctx, name)
		if ctx.Err() != nil {
			return
		}
		if useful {
			useless = 0
			log.Info().AnErr("end", err).Msg("starting the runner again")
			continue
		}
		useless++
		wait := pause(useless)
		log.Warn().Err(err).Dur("again_in", wait).Msg("runner ended before it answered a step")
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// serve is the life of one process. It tells whether it answered a step, and why it ended unless that was asked for.
func (p *Pool) serve(ctx context.Context, name string) (useful bool, err error) {
	r, err := start(p.cfg, name, p.log)
	if err != nil {
		err = fmt.Errorf("start %s: %w", name, err)
		p.started(err)
		return false, err
	}
	if err := p.awaitReady(ctx, r); err != nil {
		r.kill() // it is not listening yet, and has nothing to roll back
		r.stop(p.cfg.StopTimeout)
		p.started(err)
		return false, err
	}
	p.started(nil)
	err = p.lend(ctx, r)
	r.stop(p.cfg.StopTimeout)
	return r.answered.Load(), err
}

// lend hands a ready process from step to step until it may not be used again. The error says why it ended by itself.
func (p *Pool) lend(ctx context.Context, r *child) error {
	for {
		select {
		case p.free <- r:
		case <-r.gone:
			return r.end()
		case <-ctx.Done():
			return nil
		}
		select {
		case keep := <-r.released:
			switch {
			case r.isGone():
				return r.end()
			case !keep:
				return nil
			}
		case <-ctx.Done(): // its Execute is still waiting, and learns that the process is gone
			return nil
		}
	}
}

func (p *Pool) awaitReady(ctx context.Context, r *child) error {
	timer := time.NewTimer(p.cfg.StartTimeout)
	defer timer.Stop()
	select {
	case <-r.ready:
		return nil
	case <-r.gone:
		return fmt.Errorf("before it was ready, %w", r.end())
	case <-timer.C:
		return fmt.Errorf("%s did not say that it is ready within %s%s", r.name, p.cfg.StartTimeout, r.lastWords())
	case <-ctx.Done():
		return ctx.Err()
	}
}

// started records how the last start of any runner went.
func (p *Pool) started(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastStart = err
	if err == nil && !p.isReady {
		p.isReady = true
		close(p.ready)
	}
}

func (p *Pool) startError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lastStart
}

// pause grows with every process in a row that was of no use. Up to a fifth is left to chance, so that a pool does
// not start all its interpreters in the same instant.
func pause(useless int) time.Duration {
	d := min(firstPause<<min(useless-1, 16), longestPause)
	return d - rand.N(d/5+1) //nolint:gosec // jitter
}
