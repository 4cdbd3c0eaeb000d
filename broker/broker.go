// Package broker is the Booster: a NATS JetStream server inside this process, with the streams that carry queued steps and patches.
//
// It needs no SQL database. What it must not lose is either replicated or stands in the OMFLOW database as well.
package broker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/buildinfo"
	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/logging"
)

const (
	watchEvery   = 2 * time.Second
	memoryBudget = 64 << 20 // JetStream in memory: heartbeats only
)

// Broker is one Booster. Make it with New, run it once with Run.
type Broker struct {
	cfg     Config
	log     zerolog.Logger
	started time.Time
	ready   chan struct{}

	store  *store
	limit  int64
	server *server.Server
	nc     *nats.Conn
	js     jetstream.JetStream
}

// New makes a Booster; it touches nothing.
func New(cfg Config, log zerolog.Logger) *Broker {
	return &Broker{cfg: cfg, log: log, started: time.Now(), ready: make(chan struct{})}
}

// Ready is closed when clients can connect and every stream is there.
func (b *Broker) Ready() <-chan struct{} { return b.ready }

// Run serves until ctx ends. It returns nil on a requested stop, a *config.Error for a setting that cannot work here, and an error
// when the server or its store fails while running; the process should then end and be started again.
func (b *Broker) Run(ctx context.Context) error {
	if err := checkPort(ctx, b.cfg.listenHost(), b.cfg.Port); err != nil {
		return err
	}
	store, err := openStore(b.cfg.DataDir, b.cfg.Name)
	if err != nil {
		return err
	}
	defer store.close() // last: another process must not open the store while this one writes
	b.store, b.log = store, b.log.With().Str(logging.Node, store.marker.Name).Logger()
	if b.limit, err = store.budget(b.cfg.StoreMB, freeSpace); err != nil {
		return err
	}
	if err := b.start(ctx); err != nil {
		return err
	}
	defer b.stop()

	service, err := b.serve()
	if err != nil {
		return err
	}
	beating, stopBeating := context.WithCancel(context.WithoutCancel(ctx))
	beat := make(chan struct{})
	go func() {
		defer close(beat)
		bus.Heartbeat(beating, b.js, b.log, b.describe)
	}()
	defer func() {
		_ = service.Stop()
		stopBeating()
		<-beat
	}()

	b.log.Info().Str("address", b.cfg.address()).Str("data", b.cfg.DataDir).Stringer("sync", b.cfg.Sync).
		Int64("store_mb", b.limit/mib).Dur("took", time.Since(b.started)).Msg("Booster ready")
	if b.cfg.IP == "" {
		b.log.Warn().Msg("BOOSTER_IP is not set: only this machine can connect")
	}
	close(b.ready)
	return b.watch(ctx)
}

// start brings up the server and everything in it, within BOOSTER_START_TIMEOUT.
func (b *Broker) start(ctx context.Context) error {
	srv, err := server.NewServer(b.options())
	if err != nil {
		return fmt.Errorf("make NATS server: %w", err)
	}
	b.server = srv
	srv.SetLoggerV2(natsLog{b.log.With().Str("from", "nats-server").Logger()}, b.log.GetLevel() <= zerolog.DebugLevel, false, false)
	started := make(chan struct{})
	go func() {
		defer close(started)
		srv.Start() // recovers the store, which may take long
	}()
	ctx, cancel := context.WithTimeout(ctx, b.cfg.ReadyAfter)
	defer cancel()
	if err := b.prepare(ctx, started); err != nil {
		b.stop()
		return err
	}
	return nil
}

func (b *Broker) prepare(ctx context.Context, started <-chan struct{}) error {
	select {
	case <-started:
	case <-ctx.Done():
		return fmt.Errorf("recover the store in %s: %w; BOOSTER_START_TIMEOUT allows %s", b.cfg.DataDir, ctx.Err(), b.cfg.ReadyAfter)
	}
	deadline, _ := ctx.Deadline()
	if !b.server.ReadyForConnections(time.Until(deadline)) {
		return errors.New("NATS server does not accept connections; its log says why")
	}
	if !b.server.JetStreamEnabled() {
		return fmt.Errorf("the store in %s cannot be used; the log says why", b.cfg.DataDir)
	}
	var err error
	if b.nc, err = nats.Connect("", nats.InProcessServer(b.server), nats.Name("booster"), nats.MaxReconnects(-1)); err != nil {
		return fmt.Errorf("connect to own server: %w", err)
	}
	if b.js, err = jetstream.New(b.nc); err != nil {
		return fmt.Errorf("use own JetStream: %w", err)
	}
	return bus.Ensure(ctx, b.js, bus.Layout{StoreBytes: b.limit, Replicas: 1, Lease: b.cfg.Lease})
}

func (b *Broker) options() *server.Options {
	return &server.Options{
		ServerName:         b.store.marker.Name,
		Host:               b.cfg.listenHost(),
		Port:               b.cfg.Port,
		MaxPayload:         bus.MaxPayload,
		WriteDeadline:      10 * time.Second,
		PingInterval:       20 * time.Second, // a frozen worker is dropped within a minute
		MaxPingsOut:        2,
		NoSigs:             true, // signals belong to main
		JetStream:          true,
		StoreDir:           b.store.dir,
		JetStreamMaxMemory: memoryBudget,
		JetStreamMaxStore:  math.MaxInt64, // the limits of the streams add up to BOOSTER_STORE_MB; one more here would keep them from shrinking
		SyncInterval:       b.cfg.Sync.Interval,
		SyncAlways:         b.cfg.Sync.Always,
	}
}

// watch waits for the requested stop, or for the server to fail: JetStream disables itself when the disk is full or damaged while the
// process lives on, and a Booster that only looks alive is worse than one that is started again.
func (b *Broker) watch(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			b.log.Info().Msg("stopping")
			return nil
		case <-tick.C:
			switch {
			case !b.server.Running():
				return errors.New("NATS server stopped by itself; its log says why")
			case !b.server.JetStreamEnabled():
				return fmt.Errorf("store in %s failed; check the disk (full or damaged?) and start again", b.cfg.DataDir)
			}
		}
	}
}

// stop ends the server in order: clients are told to go elsewhere, then the store is flushed and closed.
func (b *Broker) stop() {
	if b.nc != nil {
		b.nc.Close()
	}
	b.server.Shutdown()
	b.server.WaitForShutdown()
	b.log.Info().Msg("Booster stopped")
}

// serve answers `nats micro info booster`.
func (b *Broker) serve() (micro.Service, error) {
	s, err := micro.AddService(b.nc, micro.Config{
		Name: bus.ServiceBooster, Version: bus.ServiceVersion, Description: "carries queued steps and patches",
		Metadata: map[string]string{"name": b.store.marker.Name, "version": buildinfo.Version(), "mode": b.store.marker.Mode},
	})
	if err != nil {
		return nil, fmt.Errorf("offer service %s: %w", bus.ServiceBooster, err)
	}
	return s, nil
}

// describe is the Booster's heartbeat.
func (b *Broker) describe() bus.Node {
	host, _ := os.Hostname()
	return bus.Node{
		Role: bus.ServiceBooster, Name: b.store.marker.Name, Host: host, PID: os.Getpid(), Version: buildinfo.Version(), Started: b.started,
		Booster: &bus.BoosterState{
			Mode: b.store.marker.Mode, Address: b.cfg.address(), Sync: b.cfg.Sync.String(),
			StoreBytes: size(filepath.Join(b.store.dir, storeName)), StoreLimit: b.limit,
		},
	}
}
