// Package broker is the Booster: a NATS JetStream server inside this process, with the streams that carry queued steps and patches.
//
// It needs no SQL database. What it must not lose is either replicated or stands in the OMFLOW database as well.
//
// One Booster runs alone. Two Boosters, with HA_BOOSTER_IP set in each, form a cluster; a witness beside one of the agents is
// the third vote that lets either of them go on without the other.
//
//	            ┌──────── planned stop, step-down, lost quorum ───────┬──── lease not renewed for 4 s ───┐
//	            ▼                                                     │                                   │
//	waiting ─▶ standby ──elected leader of WORK (by a majority)──▶ leading ──lease of the former free──▶ active
//	   ▲        │                                                     │                                   │
//	   └────────┴────────────── no majority: nobody is active ────────┴───────────────────────────────────┘
//
// Who leads WORK decides on replicas, on who is witness and on where leaders sit. It does so through the cluster itself, so a Booster that
// wrongly believes to lead, because it was cut off or stood still, cannot get anything decided: that takes a majority. What only one may do
// beyond that, the active does (lease.go): never are two Boosters active.
package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/micro"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/broker/audit"
	"github.com/omflow-booster/omflow-booster/internal/atomicfile"
	"github.com/omflow-booster/omflow-booster/internal/buildinfo"
	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

const (
	watchEvery   = 2 * time.Second
	passwordFile = "system-password" // for operators who can read the data directory: nats --user system
)

// Broker is one Booster. Make it with New, run it once with Run.
type Broker struct {
	cfg     Config
	log     zerolog.Logger
	started time.Time
	ready   chan struct{}
	listen  string // see listenHost

	store *store
	limit int64 // bytes that the streams may fill
	*node
	surroundings
	names names

	joined       time.Time                       // when the server was started
	view         atomic.Pointer[view]            // what the topology controller saw last; nil on a single Booster
	witnessSeen  time.Time                       // by the topology controller
	missingSince time.Time                       // by the topology controller: since when a stream is missing
	lease        atomic.Pointer[context.Context] // while this Booster holds it, see lease.go
	audit        *audit.Auditor                  // of the copies; nil on a single Booster
	contacts     contacts
	growing      atomic.Bool              // this Booster brings the queue of its single life into the cluster
	placing      sync.Mutex               // one decision on the cluster at a time
	notes        atomic.Pointer[[]string] // for the heartbeat: what an operator should know
	unfit        []string                 // by the topology controller: agents that cannot be the witness, and why
	leaving      chan string              // the name of the Booster that goes on alone, see shrink.go

	interrupt func(point string) error // ends the growth at a point; for tests
}

// New makes a Booster; it touches nothing.
func New(cfg Config, log zerolog.Logger) *Broker {
	return &Broker{cfg: cfg, log: log, started: time.Now(), ready: make(chan struct{}), leaving: make(chan string, 1)}
}

// Ready is closed when clients can connect and every stream is there.
func (b *Broker) Ready() <-chan struct{} { return b.ready }

// Run serves until ctx ends. It returns nil on a requested stop, a *config.Error for a setting that cannot work here, and an error
// when the server or its store fails while running; the process should then end and be started again.
func (b *Broker) Run(ctx context.Context) error {
	host, err := b.awaitAddress(ctx, b.listenHost)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	for _, p := range b.cfg.ports() {
		if err := checkPort(ctx, p.variable, host, p.port); err != nil {
			return err
		}
	}
	store, err := openStore(ctx, b.cfg.DataDir, b.cfg.Name, b.cfg.mode())
	if err != nil {
		return err
	}
	defer store.close() // last: another process must not open the store while this one writes
	b.store, b.log = store, b.log.With().Str(logging.Node, store.bootState().Name).Logger()
	if b.limit, err = store.budget(b.cfg.StoreMB, freeSpace); err != nil {
		return err
	}
	if !b.store.moving() {
		if err := b.store.forgetOld(); err != nil { // a move that was killed right after its end
			return err
		}
	}
	if b.cfg.mode() == modeStandalone {
		if err := b.finishShrink(ctx); err != nil {
			return err
		}
	} else {
		if b.audit, err = b.newAudit(); err != nil {
			return err
		}
		if err := b.refuseClone(ctx); err != nil {
			return err
		}
		if err := b.prepareGrowth(ctx); err != nil {
			return err
		}
		if b.store.growing() && !b.store.brings() { // it was never used: there is nothing to restore
			if err := b.growthDone(); err != nil {
				return err
			}
		}
		b.growing.Store(b.store.growing())
	}
	for {
		err := b.live(ctx)
		var r audit.Rebuild
		if ctx.Err() != nil || !errors.As(err, &r) {
			return err
		}
		if err := b.store.putAside(r); err != nil {
			return err
		}
	}
}

// awaitAddress waits a while for the address of a Booster that has run here before: its host may just boot. On a new data
// directory the setting is wrong.
func (b *Broker) awaitAddress(ctx context.Context, resolve func(context.Context) (string, error)) (string, error) {
	_, err := os.Stat(filepath.Join(b.cfg.DataDir, bootStateName))
	fresh, began, said := err != nil, time.Now(), false
	for {
		host, err := resolve(ctx)
		if fresh || !errors.As(err, new(elsewhereError)) || time.Since(began) > addressTimeout {
			return host, err
		}
		if !said {
			said = true
			b.log.Warn().Err(err).Dur("at_most", addressTimeout).Msg("waiting for the address of this host: this Booster has run here before")
		}
		if !bus.Sleep(ctx, addressRetry) {
			return host, err
		}
	}
}

// listenHost is the address that the server listens on, for all the life of this Booster.
func (b *Broker) listenHost(ctx context.Context) (string, error) {
	var err error
	if b.listen == "" {
		b.listen, err = b.cfg.place().resolve(ctx)
	}
	return b.listen, err
}

// live runs the server once: until ctx ends, it fails, or it must start again without a copy that differs (a rebuild).
func (b *Broker) live(ctx context.Context) error {
	if err := b.start(ctx); err != nil {
		return err
	}
	defer func() {
		b.stop()
		b.log.Info().Msg("Booster stopped")
	}()
	life, end := context.WithCancelCause(ctx)
	defer end(nil)
	if err := answerAudit(b.node, b.store, b.log, end); err != nil {
		return err
	}
	err := b.serve(life)
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		b.log.Info().Msg("stopping")
		return nil
	}
	return context.Cause(life)
}

// start brings up the server, within BOOSTER_START_TIMEOUT.
func (b *Broker) start(ctx context.Context) (err error) {
	opts := nodeOptions(b.store.bootState().Name, b.store.dir, b.cfg.sync())
	if opts.Host, err = b.listenHost(ctx); err != nil {
		return err
	}
	opts.Port = b.cfg.Port
	if b.cfg.mode() == modeCluster {
		if err := clustered(opts, opts.Host, b.cfg.ClusterPort, hostPort(b.cfg.IP, b.cfg.ClusterPort),
			b.routes(b.store.bootState().Witness)); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, b.cfg.ReadyAfter)
	defer cancel()
	b.joined = time.Now()
	if b.node, err = startNode(ctx, opts, b.log); err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(b.cfg.DataDir, passwordFile), []byte(b.secret), 0o600); err != nil {
		b.log.Warn().Err(err).Msg("password of the system account not written: `nats server` cannot be used")
	}
	return nil
}

// serve makes the streams, keeps the cluster in shape and waits for the end.
func (b *Broker) serve(ctx context.Context) error {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()
	answer, err := b.answerCluster()
	if err != nil {
		return err
	}
	parts.Go(func() { answer(inner) })
	if b.cfg.mode() == modeCluster {
		parts.Go(func() { b.watchMembers(inner) })
		stopAnswering, err := b.answerFounding()
		if err != nil {
			return err
		}
		defer stopAnswering()
		stopControl := b.startControl(inner)
		parts.Go(func() { b.holdLease(inner) })
		parts.Go(func() { b.audit.Run(inner) })
		defer func() {
			if b.store.bootState().Left == "" {
				b.awaitAudit()
			}
			stopControl() // it would take leadership back
			if b.store.bootState().Left == "" && b.leads() {
				if _, err := b.handOver(context.Background()); err != nil {
					b.log.Warn().Err(err).Msg("stopping without handing over")
				}
			}
		}()
	} else if err := b.ensureSingle(ctx); err != nil {
		return err
	}
	if err := b.waitForStreams(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	service, err := b.offer()
	if err != nil {
		return err
	}
	defer func() { _ = service.Stop() }()
	parts.Go(func() {
		if err := bus.Heartbeat(inner, b.js, b.log, nil, b.describe); err != nil { // the cluster would not have let it in, see clone.go
			b.log.Error().Err(err).Msg("this Booster is not among the nodes")
		}
	})
	parts.Go(func() { b.coordinator().Run(inner) })
	if b.cfg.mode() == modeStandalone {
		parts.Go(func() { b.keepSingle(inner) })
	}

	b.log.Info().Str("address", b.cfg.address()).Str("mode", b.cfg.mode()).Str("data", b.cfg.DataDir).Stringer("sync", b.cfg.sync()).
		Int64("store_mb", b.limit/mib).Dur("took", time.Since(b.started)).Msg("Booster ready")
	if b.cfg.IP == "" {
		b.log.Warn().Msg("BOOSTER_IP is not set: only this machine can connect")
	}
	if !b.served() {
		close(b.ready)
	}
	return b.watch(ctx)
}

// startControl runs the topology controller until stop is called.
func (b *Broker) startControl(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		b.controlTopology(ctx)
	}()
	return func() {
		cancel()
		<-over
	}
}

func (b *Broker) layout(replicas int) bus.Layout {
	return bus.Layout{StoreBytes: b.limit, Replicas: replicas, Lease: b.cfg.Lease}
}

// ensureSingle makes the streams of a single Booster.
func (b *Broker) ensureSingle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.ReadyAfter)
	defer cancel()
	return bus.Ensure(ctx, b.js, b.layout(1))
}

// waitForStreams returns when every stream is there, or ctx ends. In a cluster that may take as long as the other Booster does, so it
// says what it waits for.
func (b *Broker) waitForStreams(ctx context.Context) error {
	said := time.Time{}
	for ctx.Err() == nil {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		_, err := b.js.KeyValue(call, bus.BucketControl) // created last, see bus.Ensure
		cancel()
		if err == nil && !b.growing.Load() {
			return nil
		}
		if err := b.failed(); err != nil {
			return err
		}
		if time.Since(said) > 10*time.Second && time.Since(b.started) > 3*time.Second {
			said = time.Now()
			b.log.Warn().Str("other", hostPort(b.cfg.HAIP, b.cfg.HAClusterPort)).Msg(b.awaited())
		}
		bus.Sleep(ctx, 200*time.Millisecond)
	}
	return nil
}

// awaited says what keeps the streams from being there, as far as it is known.
func (b *Broker) awaited() string {
	switch v := b.view.Load(); {
	case v == nil || v.metaLeader == "":
		return fmt.Sprintf(
			"waiting for the other Booster: alone this one has no majority; start the other, and check HA_BOOSTER_IP and port %d",
			b.cfg.HAClusterPort)
	case b.growing.Load():
		return "waiting for the streams: the queue is being restored into the cluster"
	default:
		return "waiting for the streams: they are being made or restored, or nobody leads them yet"
	}
}

// watch waits for the requested stop, for the server to fail, or for the other Booster to go on alone.
func (b *Broker) watch(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if err := b.failed(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case other := <-b.leaving:
			return b.leave(ctx, other)
		case <-tick.C:
		}
	}
}

// coordinator rolls out patches while this Booster is active.
func (b *Broker) coordinator() *rollout.Coordinator {
	return &rollout.Coordinator{JS: b.js, Policy: b.cfg.policy(), Timeout: b.cfg.Timeout, Log: b.log, Exclusive: b.active}
}

// offer answers `nats micro info booster`.
func (b *Broker) offer() (micro.Service, error) {
	s, err := micro.AddService(b.nc, micro.Config{
		Name: bus.ServiceBooster, Version: bus.ServiceVersion, Description: "carries queued steps and patches",
		Metadata: map[string]string{"name": b.store.bootState().Name, "version": buildinfo.Version(), "mode": b.store.bootState().Mode},
	})
	if err != nil {
		return nil, fmt.Errorf("offer service %s: %w", bus.ServiceBooster, err)
	}
	if b.cfg.mode() == modeCluster {
		err = errors.Join(
			s.AddEndpoint("step-down", micro.HandlerFunc(b.stepDown), micro.WithEndpointSubject(bus.StepDownSubject(b.name()))),
			s.AddEndpoint("state", micro.HandlerFunc(func(req micro.Request) { respond(req, b.describe()) }),
				micro.WithEndpointSubject(bus.StateSubject(b.name()))),
			s.AddEndpoint("leave", micro.HandlerFunc(b.answerLeave), micro.WithEndpointSubject(bus.LeaveSubject(b.name()))))
	}
	return s, err
}

// describe is the Booster's heartbeat.
func (b *Broker) describe() bus.Node {
	host, _ := os.Hostname()
	free, _ := freeSpace(b.store.dir) // 0 is not known
	var notes []string
	if said := b.notes.Load(); said != nil && b.active() {
		notes = *said
	}
	return bus.Node{
		Role: bus.ServiceBooster, Name: b.store.bootState().Name, Host: host, PID: os.Getpid(), Version: buildinfo.Version(), Started: b.started,
		Booster: &bus.BoosterState{
			Mode: b.store.bootState().Mode, Duty: b.duty(), Address: b.cfg.address(), Sync: b.cfg.sync().String(),
			StoreBytes: size(filepath.Join(b.store.dir, storeName)), StoreLimit: b.limit, Takeover: b.takeover(),
			FreeBytes: free, Hosts: ownHosts(), Notes: notes,
		},
	}
}

// duty is active or standby.
func (b *Broker) duty() string {
	if b.active() {
		return bus.DutyActive
	}
	return bus.DutyStandby
}
