package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/broker/audit"
	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/logging"
)

// WitnessConfig is the environment of a witness. The agent that runs it fills it from the grant.
type WitnessConfig struct {
	logging.Config

	Name     string   `envconfig:"WITNESS_NAME" desc:"name in the cluster, from the grant: witness-…"`
	Address  string   `envconfig:"WITNESS_ADDRESS" desc:"host:port where the Boosters reach it"`
	Listen   string   `envconfig:"WITNESS_LISTEN" desc:"IP address to listen on, if it is not that of WITNESS_ADDRESS; from AGENT_WITNESS_LISTEN"`
	Boosters []string `envconfig:"WITNESS_BOOSTERS" desc:"host:port of the Boosters' cluster ports, separated by commas"`
	DataDir  string   `envconfig:"WITNESS_DATA_DIR" desc:"where its copy of the streams is stored"`
}

// Validate checks what does not need anything outside the process.
func (c *WitnessConfig) Validate() error {
	if err := c.Config.Validate(); err != nil {
		return err
	}
	byHand := "the agent sets it; see AGENT_WITNESS"
	if !isWitness(c.Name) {
		return &config.Error{Var: "WITNESS_NAME", Problem: strconv.Quote(c.Name) + " does not begin with " + bus.WitnessPrefix, Fix: byHand}
	}
	if _, _, err := c.hostPort(); err != nil {
		return &config.Error{Var: "WITNESS_ADDRESS", Problem: err.Error(), Fix: byHand}
	}
	if _, err := config.Address("WITNESS_LISTEN", c.Listen); err != nil {
		return err
	}
	if len(c.Boosters) == 0 {
		return &config.Error{Var: "WITNESS_BOOSTERS", Problem: "not set", Fix: byHand}
	}
	if c.DataDir == "" {
		return &config.Error{Var: "WITNESS_DATA_DIR", Problem: "not set", Fix: byHand}
	}
	return nil
}

func (c *WitnessConfig) hostPort() (host string, port int, err error) {
	host, text, err := net.SplitHostPort(c.Address)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 1 || port > 65535 {
		return "", 0, fmt.Errorf("%q is not a port", text)
	}
	return host, port, nil
}

// Witness is the third member of a cluster of two Boosters: it votes and stores, so that either Booster can go on without the
// other. It takes no clients, and leadership that falls to it is moved to a Booster at once.
type Witness struct {
	cfg      WitnessConfig
	port     int
	log      zerolog.Logger
	listener *listener
	ready    chan struct{}

	announce sync.Once // ready is
}

// NewWitness makes a witness; it touches nothing. It returns a *config.Error for a wrong setting.
func NewWitness(cfg WitnessConfig, log zerolog.Logger) (*Witness, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	own, port, err := cfg.hostPort()
	if err != nil {
		return nil, err
	}
	log = log.With().Str(logging.Node, cfg.Name).Logger()
	listener := newListener(place{"AGENT_IP", own, "AGENT_WITNESS_LISTEN", cfg.Listen}, cfg.DataDir, log)
	return &Witness{cfg: cfg, port: port, log: log, listener: listener, ready: make(chan struct{})}, nil
}

// Ready is closed when the Boosters can reach it.
func (w *Witness) Ready() <-chan struct{} { return w.ready }

// Run votes and stores until ctx ends. Its errors are those of Broker.Run.
func (w *Witness) Run(ctx context.Context) error {
	host, err := w.listener.await(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	if err := checkPort(ctx, "AGENT_WITNESS_PORT", host, w.port); err != nil {
		return err
	}
	store, err := openStore(ctx, w.cfg.DataDir, w.cfg.Name, modeWitness)
	if err != nil {
		return err
	}
	defer store.close()
	if _, err := store.budget(0, freeSpace); err != nil {
		return err
	}
	for {
		err := w.live(ctx, store, host)
		var r audit.Rebuild
		if ctx.Err() != nil || !errors.As(err, &r) {
			return err
		}
		if err := store.putAside(r); err != nil {
			return err
		}
	}
}

// live is Broker.live.
func (w *Witness) live(ctx context.Context, store *store, host string) error {
	opts := nodeOptions(w.cfg.Name, store.dir, Sync{Always: true})
	opts.Host, opts.Port = "127.0.0.1", -1 // the NATS server needs a port for clients; no client learns it
	opts.Cluster.NoAdvertise = true
	if err := clustered(opts, host, w.port, w.cfg.Address, w.cfg.Boosters); err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(ctx, time.Minute)
	node, err := startNode(starting, opts, w.log)
	cancel()
	if err != nil {
		return err
	}
	defer func() {
		node.stop()
		w.log.Info().Msg("witness stopped")
	}()
	life, end := context.WithCancelCause(ctx)
	defer end(nil)
	if err := answerAudit(node, store, w.log, end); err != nil {
		return err
	}
	w.log.Info().Str("address", w.cfg.Address).Str("data", w.cfg.DataDir).Msg("witness ready")
	w.announce.Do(func() { close(w.ready) })
	for life.Err() == nil {
		if err := node.failed(); err != nil {
			return err
		}
		bus.Sleep(life, watchEvery)
	}
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(life)
}
