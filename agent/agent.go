// Package agent is the service beside an OMFLOW Server: it starts the server and the worker, watches over both, and brings
// every patch that is announced on the bus into the server's home, in order. See DESIGN.md for the reasons.
package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/omflow-booster/omflow-booster/internal/buildinfo"
	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/supervise"
)

// Deps is what the agent gets from outside.
type Deps struct {
	Client        *bus.Client // from bus.Connect; the caller closes it
	WorkerCommand []string    // program and arguments that run a worker; empty: none

	WitnessCommand []string // program and arguments that run a witness; empty: this agent can carry none
}

// Agent is one agent. Make it with New.
type Agent struct {
	cfg     Config
	deps    Deps
	log     zerolog.Logger
	ready   chan struct{}
	started time.Time

	beforeDisk patch.Before // for tests: asked before every operation of a patch on the disk
}

// New checks the configuration and touches nothing. It returns a *config.Error that names the variable.
func New(cfg Config, deps Deps, log zerolog.Logger) (*Agent, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Client == nil {
		return nil, errors.New("agent needs a connection to the bus")
	}
	if cfg.Witness == "on" && len(deps.WitnessCommand) == 0 {
		return nil, &config.Error{Var: "AGENT_WITNESS", Problem: "on, but this program cannot run a witness", Fix: "set it to off"}
	}
	return &Agent{cfg: cfg, deps: deps, log: log, ready: make(chan struct{})}, nil
}

// Ready is closed when server and worker have been started, healthy or not, or cannot be because the home lies between two
// versions. It does not wait for a Booster.
func (a *Agent) Ready() <-chan struct{} { return a.ready }

// Run starts everything, follows the patches until ctx ends, and stops everything: the worker first, then the server. It
// returns nil on a requested stop, and a *config.Error if AGENT_DATA_DIR cannot be used or another agent uses it, or this host lacks
// what the server needs. Call it once.
func (a *Agent) Run(ctx context.Context) error {
	a.started = time.Now()
	dir, err := openDataDir(a.cfg.DataDir)
	if err != nil {
		return err
	}
	defer dir.close()
	who, err := dir.identity()
	if err != nil {
		return err
	}
	if a.cfg.Name != "" {
		who.Name = a.cfg.Name
	}
	if a.deps.Client.NC.IsConnected() { // else the first heartbeat finds it
		if err := a.copied(bus.RefuseClone(ctx, a.deps.Client.JS, bus.ServiceAgent, who.Name)); err != nil {
			return err
		}
	}
	book, err := openLedger(dir)
	if err != nil {
		return err
	}
	home, err := openHome(a.cfg.Home)
	if err != nil {
		return err
	}
	defer func() { _ = home.Close() }()
	data, err := os.OpenRoot(dir.path)
	if err != nil {
		return fmt.Errorf("open AGENT_DATA_DIR: %w", err)
	}
	defer func() { _ = data.Close() }()
	journal, err := patch.Open(home.Root, data, a.beforeDisk)
	if err != nil {
		return err
	}
	log := a.log.With().Str(logging.Node, who.Name).Logger()
	trusted, err := openTrust(a.cfg.JoinFile, dir, log)
	if err != nil {
		return err
	}

	// Only the holder of the data directory may do this, and only before it starts children of its own.
	err = supervise.EndLeftovers(ctx, who.ID, a.cfg.StopTimeout, log)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	if err := a.preflight(ctx, log); err != nil { // after the leftovers, one of which may have the witness's port
		return err
	}
	here := site{
		cfg: &a.cfg, client: a.deps.Client, node: who.Name, dir: dir, home: home, journal: journal, trust: trusted, ledger: book, log: log,
	}
	p, err := a.assemble(here, who.ID)
	if err != nil {
		return err
	}
	return a.serve(ctx, p, log)
}

// serve runs the parts until ctx ends or one of them fails.
func (a *Agent) serve(ctx context.Context, p *parts, log zerolog.Logger) error {
	describe := func() bus.Node { return a.describe(p) }
	stopService, err := addService(a.deps.Client.NC, p.node, describe, p.driftAnswer, p.endpoints...)
	if err != nil {
		return err
	}
	defer stopService()

	group, ctx := errgroup.WithContext(ctx)
	processes, endProcesses := context.WithCancel(context.WithoutCancel(ctx)) // they end in host.stopAll's order, not all at once
	group.Go(func() error { return p.host.run(processes) })
	group.Go(func() error { return p.witness.run(processes) }) // longest: while this host stops, the Boosters may need the vote
	group.Go(func() error {
		return a.copied(bus.Heartbeat(processes, a.deps.Client.JS, log, p.status.news, describe))
	})
	group.Go(func() error {
		p.drift.watch(ctx)
		return nil
	})
	group.Go(func() error {
		followCordon(ctx, a.deps.Client, p.node, p.host, log)
		return nil
	})
	group.Go(func() error {
		defer endProcesses()
		log.Info().Str("home", a.cfg.Home).Msg("agent starting")
		p.resumer.resume(ctx)
		close(a.ready)
		p.updater.run(ctx)
		log.Info().Msg("agent stopping")
		return p.host.stopAll()
	})
	return group.Wait()
}

// copied says what to do about an agent of the same name.
func (a *Agent) copied(err error) error {
	var clone *bus.CloneError
	switch {
	case !errors.As(err, &clone):
		return err
	case a.cfg.Name != "":
		return &config.Error{Var: "AGENT_NAME", Problem: err.Error(), Fix: "give this one another name"}
	}
	return &config.Error{
		Var: "AGENT_DATA_DIR", Problem: err.Error() + ": this machine is a copy of it",
		Fix: "empty the directory on the copy, or set AGENT_NAME there",
	}
}

func (a *Agent) describe(p *parts) bus.Node {
	hostname, _ := os.Hostname()
	state := bus.AgentState{OS: runtime.GOOS, HomeVersion: p.home.version()}
	p.host.describe(&state)
	p.ledger.describe(&state)
	p.status.describe(&state)
	p.drift.describe(&state)
	p.witness.describe(&state)
	return bus.Node{
		Role: bus.ServiceAgent, Name: p.node, Host: hostname, PID: os.Getpid(), Version: buildinfo.Version(),
		Started: a.started, At: time.Now(), Agent: &state,
	}
}
