// Package broker is the Booster: a NATS JetStream server inside this process, with the streams that carry queued steps and patches.
//
// It needs no SQL database. What it must not lose is either replicated or stands in the OMFLOW database as well.
//
// One Booster runs alone. Two Boosters, with HA_BOOSTER_IP set in each, form a cluster; a witness beside one of the agents is
// the third vote that lets either of them go on without the other.
//
//	            ┌──────── planned stop, step-down, lost quorum ───────┬──── lease not renewed for 4 s ───┐
//	            ▼                                                     │                                   │
//	waiting ─▶ standby ──elected leader of WORK (by a majority)──▶ leading ──lease free──▶ active
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
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/broker/audit"
	"github.com/omflow-booster/omflow-booster/internal/atomicfile"
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
	cfg      Config
	log      zerolog.Logger
	started  time.Time
	ready    chan struct{}
	listener *listener
	leaving  chan string // see departure
	announce sync.Once   // ready is

	store *store // these three from the begin of Run on
	limit int64  // bytes that the streams may fill
	move  *move

	now       atomic.Pointer[life]     // what runs at this moment; for tests
	interrupt func(point string) error // see move; for tests
}

// New makes a Booster; it touches nothing. It returns a *config.Error for a wrong setting.
func New(cfg Config, log zerolog.Logger) (*Broker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Broker{
		cfg: cfg, log: log, started: time.Now(), ready: make(chan struct{}), leaving: make(chan string, 1),
		listener: newListener(cfg.place(), cfg.DataDir, log),
	}, nil
}

// Ready is closed when clients can connect and every stream is there.
func (b *Broker) Ready() <-chan struct{} { return b.ready }

// Run serves until ctx ends. It returns nil on a requested stop, a *config.Error for a setting that cannot work here, and an error
// when the server or its store fails while running; the process should then end and be started again.
func (b *Broker) Run(ctx context.Context) error {
	host, err := b.listener.await(ctx)
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
	b.move = newMove(store, b.cfg.ReadyAfter, b.log, b.interrupt)
	if err := b.finishMoves(ctx); err != nil {
		return err
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

// finishMoves brings the store to where the server can be started: what a growth or a shrink left in the middle goes on first.
func (b *Broker) finishMoves(ctx context.Context) error {
	if !b.store.moving() {
		if err := b.store.forgetOld(); err != nil { // a move that was killed right after its end
			return err
		}
	}
	if b.cfg.mode() == modeStandalone {
		return b.move.finishShrink(ctx)
	}
	if err := refuseClone(ctx, b.cfg.Network, b.store.bootState().Name); err != nil {
		return err
	}
	return b.move.grow(ctx)
}

// live runs the server once: until ctx ends, it fails, or it must start again without a copy that differs (a rebuild).
func (b *Broker) live(ctx context.Context) error {
	n, err := b.start(ctx)
	if err != nil {
		return err
	}
	defer func() {
		n.stop()
		b.log.Info().Msg("Booster stopped")
	}()
	running, end := context.WithCancelCause(ctx)
	defer end(nil)
	l, err := b.newLife(n)
	if err != nil {
		return err
	}
	b.now.Store(l)
	if err := answerAudit(n, b.store, b.log, end); err != nil {
		return err
	}
	err = b.serve(running, l)
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		b.log.Info().Msg("stopping")
		return nil
	}
	return context.Cause(running)
}

// start brings up the server, within BOOSTER_START_TIMEOUT.
func (b *Broker) start(ctx context.Context) (*node, error) {
	state := b.store.bootState()
	opts := nodeOptions(state.Name, b.store.dir, b.cfg.sync())
	var err error
	if opts.Host, err = b.listener.host(ctx); err != nil {
		return nil, err
	}
	opts.Port = b.cfg.Port
	if b.cfg.mode() == modeCluster {
		if err := clustered(opts, opts.Host, b.cfg.ClusterPort, b.cfg.ownMember(), b.cfg.routes(state.Witness)); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, b.cfg.ReadyAfter)
	defer cancel()
	n, err := startNode(ctx, opts, b.log)
	if err != nil {
		return nil, err
	}
	if err := atomicfile.Write(filepath.Join(b.cfg.DataDir, passwordFile), []byte(n.secret), 0o600); err != nil {
		b.log.Warn().Err(err).Msg("password of the system account not written: `nats server` cannot be used")
	}
	return n, nil
}

// serve makes the streams, keeps the cluster in shape and waits for the end.
func (b *Broker) serve(ctx context.Context, l *life) error {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()
	answer, err := l.report.answerCluster()
	if err != nil {
		return err
	}
	parts.Go(func() { answer(inner) })
	if l.member != nil {
		stop, err := l.member.run(inner, &parts)
		if err != nil {
			return err
		}
		defer stop()
	} else if err := b.ensureSingle(ctx, l.cluster); err != nil {
		return err
	}
	if err := b.waitForStreams(ctx, l); err != nil || ctx.Err() != nil {
		return err
	}
	service, err := l.report.offer()
	if err != nil {
		return err
	}
	defer func() { _ = service.Stop() }()
	parts.Go(func() {
		// A clone fails here; the cluster would not have let it in, see clone.go.
		if err := bus.Heartbeat(inner, l.node.js, b.log, nil, l.report.describe); err != nil {
			b.log.Error().Err(err).Msg("this Booster is not among the nodes")
		}
	})
	parts.Go(func() { b.coordinator(l).Run(inner) })
	if l.member == nil {
		parts.Go(func() { l.keeper.runSingle(inner) })
	}

	b.log.Info().Str("address", b.cfg.address()).Str("mode", b.cfg.mode()).Str("data", b.cfg.DataDir).Stringer("sync", b.cfg.sync()).
		Int64("store_mb", b.limit/mib).Dur("took", time.Since(b.started)).Msg("Booster ready")
	if b.cfg.IP == "" {
		b.log.Warn().Msg("BOOSTER_IP is not set: only this machine can connect")
	}
	b.announce.Do(func() { close(b.ready) })
	return b.watch(ctx, l)
}

// ensureSingle makes the streams of a single Booster.
func (b *Broker) ensureSingle(ctx context.Context, c *cluster) error {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.ReadyAfter)
	defer cancel()
	return bus.Ensure(ctx, c.node.js, b.budget().layout(1))
}

// waitForStreams returns when every stream is there, or ctx ends. In a cluster that may take as long as the other Booster does, so it
// says what it waits for.
func (b *Broker) waitForStreams(ctx context.Context, l *life) error {
	said := time.Time{}
	for ctx.Err() == nil {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		_, err := l.node.js.KeyValue(call, bus.BucketControl) // created last, see bus.Ensure
		cancel()
		if err == nil && !b.move.growing.Load() {
			return nil
		}
		if err := l.node.failed(); err != nil {
			return err
		}
		if time.Since(said) > 10*time.Second && time.Since(b.started) > 3*time.Second {
			said = time.Now()
			b.log.Warn().Str("other", b.cfg.otherMember()).Msg(l.awaited(b.move.growing.Load(), b.cfg.HAClusterPort))
		}
		bus.Sleep(ctx, 200*time.Millisecond)
	}
	return nil
}

// awaited says what keeps the streams from being there, as far as it is known.
func (l *life) awaited(growing bool, otherPort int) string {
	if l.member == nil {
		return "waiting for the streams: the store does not answer yet"
	}
	switch v := l.member.control.view.Load(); {
	case v == nil || v.metaLeader == "":
		return fmt.Sprintf(
			"waiting for the other Booster: alone this one has no majority; start the other, and check HA_BOOSTER_IP and port %d", otherPort)
	case growing:
		return "waiting for the streams: the queue is being restored into the cluster"
	default:
		return "waiting for the streams: they are being made or restored, or nobody leads them yet"
	}
}

// watch waits for the requested stop, for the server to fail, or for the other Booster to go on alone.
func (b *Broker) watch(ctx context.Context, l *life) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		if err := l.node.failed(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case other := <-b.leaving:
			return l.member.departure.leave(ctx, other)
		case <-tick.C:
		}
	}
}

// coordinator rolls out patches while this Booster is active.
func (b *Broker) coordinator(l *life) *rollout.Coordinator {
	return &rollout.Coordinator{JS: l.node.js, Policy: b.cfg.policy(), Timeout: b.cfg.Timeout, Log: b.log, Exclusive: l.lease.active}
}
