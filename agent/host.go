package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/omflow-booster/omflow-booster/agent/logfile"
	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/supervise"
)

const stateNone = "none" // of a child that this agent does not run

// host is the OMFLOW Server and the worker beside it. Either may be nil.
type host struct {
	cfg    *Config
	log    zerolog.Logger
	spec   supervise.Spec // what all children have in common
	server *supervise.Child
	worker *supervise.Child
	files  []*logfile.File // what the two write

	mu      sync.Mutex  // one change of the worker at a time
	up      bool        // between start and stopAll
	ordered atomic.Bool // an operator wants no steps here

	begun, healthy time.Time // the last start of the server, until it was healthy or its time over; the updater's goroutine alone uses them
}

// newHost prepares the children and starts none. name is the agent's, mark what its processes are found by.
func newHost(cfg *Config, worker []string, name, mark string, log zerolog.Logger) (*host, error) {
	switch {
	case cfg == nil:
		return nil, errors.New("agent: the host needs settings")
	case name == "" || mark == "":
		return nil, errors.New("agent: the host needs the name of the agent and the mark of its processes")
	}
	h := &host{cfg: cfg, log: log}
	env := append(os.Environ(), "OMFLOW_AGENT="+name)
	spec := supervise.Spec{
		Dir: cfg.Home, Env: env, Owner: mark, StopTimeout: cfg.StopTimeout,
		RestartMin: cfg.RestartMin, RestartMax: cfg.RestartMax, ReadyEvery: cfg.HealthEvery,
	}
	h.spec = spec
	if len(cfg.command) > 0 {
		server := spec
		server.Name, server.Command, server.Ready = "server", cfg.command, health(cfg.HealthURL)
		server.Output = h.logFile(server.Name)
		h.server = supervise.New(server, log)
	}
	if cfg.Worker == "on" && len(worker) > 0 {
		beside := spec
		beside.Name, beside.Command, beside.Env = "worker", worker, workerEnv(env, name)
		beside.Output = h.logFile(beside.Name)
		h.worker = supervise.New(beside, log)
	}
	return h, nil
}

// workerEnv names the worker after the agent unless it has a name, and lets it log what the agent can take apart again.
func workerEnv(env []string, name string) []string {
	env = slices.Clone(env)
	if os.Getenv("WORKER_NAME") == "" {
		env = append(env, "WORKER_NAME="+name)
	}
	return append(env, "LOG_FORMAT=json")
}

// run owns the processes until ctx ends. It fails only when one cannot be ended.
func (h *host) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, child := range []*supervise.Child{h.server, h.worker} {
		if child != nil {
			group.Go(func() error { return child.Run(ctx) })
		}
	}
	defer h.closeLogFiles()
	return group.Wait()
}

// start brings up the server and, when it is healthy or its time is over, the worker: steps do not need the server's web side.
// It returns an error if the server is not healthy in time, or ctx ended.
func (h *host) start(ctx context.Context) error {
	unhealthy := h.startServer(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	h.startWorker()
	return unhealthy
}

// startServer brings up the server alone, and returns an error if it is not healthy in time, or ctx ended.
func (h *host) startServer(ctx context.Context) error {
	if ctx.Err() != nil || h.server == nil {
		return ctx.Err()
	}
	if h.server.Status().State != supervise.Running {
		h.begun = time.Now()
		defer func() { h.healthy = time.Now() }()
	}
	h.server.Start()
	wait, cancel := context.WithTimeout(ctx, h.cfg.HealthTimeout)
	defer cancel()
	if err := h.server.WaitRunning(wait); err != nil {
		return fmt.Errorf("the OMFLOW Server was not healthy within %s: %w", h.cfg.HealthTimeout, err)
	}
	return nil
}

// started is when the server was started last, and when it was healthy or its time over.
func (h *host) started() (begun, healthy time.Time) {
	return h.begun, h.healthy
}

// isUp tells whether start has come to its end since the last stopAll.
func (h *host) isUp() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.up
}

// checkServer waits until the server that runs already answers as a healthy one, and returns an error if it does not in time, or ctx ended.
func (h *host) checkServer(ctx context.Context) error {
	if err := h.startServer(ctx); err != nil || h.server == nil {
		return err
	}
	check := health(h.cfg.HealthURL)
	if check == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, h.cfg.HealthTimeout)
	defer cancel()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if !bus.Sleep(ctx, h.cfg.HealthEvery) {
			return fmt.Errorf("the OMFLOW Server was not healthy within %s: %w", h.cfg.HealthTimeout, err)
		}
	}
}

// settle watches a healthy server for AGENT_SETTLE, and returns an error if it ends or is not healthy at the end of that time, or ctx
// ended. A server that falls over a moment after it answered is not a good version.
func (h *host) settle(ctx context.Context) error {
	if h.server == nil {
		return ctx.Err()
	}
	first := h.server.Status()
	for end := time.Now().Add(h.cfg.Settle); time.Now().Before(end); {
		if !bus.Sleep(ctx, min(h.cfg.HealthEvery, h.cfg.Settle)) {
			return ctx.Err()
		}
		if now := h.server.Status(); now.State != supervise.Running || now.Restarts != first.Restarts {
			return fmt.Errorf("the OMFLOW Server was healthy and ended within AGENT_SETTLE (%s): %s", h.cfg.Settle, now.Error)
		}
	}
	return h.checkServer(ctx)
}

func (h *host) startWorker() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.up = true
	if h.worker != nil {
		h.worker.Start()
	}
}

// stopAll ends the worker first, which finishes its steps while the server is still there, and then the server. It takes no
// context, because what is half stopped is of no use; both waits are bounded by AGENT_STOP_TIMEOUT.
func (h *host) stopAll() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.up = false
	return stopChildren(h.worker, h.server)
}

// stopWorker ends the worker as stopAll does; the server runs on.
func (h *host) stopWorker() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.up = false
	return stopChildren(h.worker)
}

func stopChildren(children ...*supervise.Child) error {
	var errs []error
	for _, child := range children {
		if child != nil {
			errs = append(errs, child.Stop(context.Background()))
		}
	}
	return errors.Join(errs...)
}

// once runs a command in the home to its end, as supervise.Once does.
func (h *host) once(ctx context.Context, name string, command ...string) (last []string, err error) {
	spec := h.spec
	spec.Name, spec.Command = name, command
	spec.Env = append(slices.Clone(spec.Env), "PYTHONUNBUFFERED=1") // its lines in the log when it says them
	return supervise.Once(ctx, spec, h.log)
}

// cordon has the heartbeat say what the worker reads for itself. It tells whether that is news.
func (h *host) cordon(on bool) (news bool) { return h.ordered.Swap(on) != on }

// describe fills in what the heartbeat says of the children.
func (h *host) describe(state *bus.AgentState) {
	var restarts [2]int
	var problems []string
	state.Server, state.ServerPID, restarts[0], problems = describeChild(h.server, "server", problems)
	state.Worker, state.WorkerPID, restarts[1], problems = describeChild(h.worker, "worker", problems)
	state.Restarts = restarts[0] + restarts[1]
	state.LastError = strings.Join(problems, "; ")
	state.Cordoned = h.ordered.Load()
}

func describeChild(child *supervise.Child, name string, problems []string) (state string, pid, restarts int, _ []string) {
	if child == nil {
		return stateNone, 0, 0, problems
	}
	s := child.Status()
	if s.Error != "" {
		problems = append(problems, name+": "+s.Error)
	}
	return string(s.State), s.PID, s.Restarts, problems
}
