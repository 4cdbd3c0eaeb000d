package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/shirou/gopsutil/v4/disk"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/supervise"
)

const (
	grantFile    = "witness.json" // the grant that this agent follows
	witnessDirs  = "witness"      // one directory for each grant
	grantEvery   = 2 * time.Second
	grantTimeout = 5 * time.Second
)

// witness runs the third vote of two Boosters on this host when the active Booster has appointed this agent. The grant is kept on disk and
// followed before any Booster answers: after a full stop, one Booster and the witness must be able to go on without the other.
type witness struct {
	cfg     *Config
	client  *bus.Client
	command []string
	name    string // of the agent
	mark    string
	dir     *dataDir
	log     zerolog.Logger

	mu    sync.Mutex
	child *supervise.Child // nil when this agent is not witness
	ip    string           // of this host as the Boosters see it
}

// newWitness makes the witness of an agent. command starts its process, whose descendants carry mark.
func newWitness(s site, command []string, mark string, log zerolog.Logger) (*witness, error) {
	switch {
	case s.cfg == nil || s.client == nil || s.dir == nil:
		return nil, errors.New("agent: the witness needs settings, a connection and a data directory")
	case s.node == "" || mark == "":
		return nil, errors.New("agent: the witness needs the name of the agent and the mark of its processes")
	}
	return &witness{
		cfg: s.cfg, client: s.client, command: command, name: s.node, mark: mark, dir: s.dir, log: log, ip: s.cfg.WitnessConfig.IP,
	}, nil
}

func (w *witness) able() bool { return w.cfg.Witness != "off" && len(w.command) > 0 }

// run follows the grant until ctx ends; then it stops the witness.
func (w *witness) run(ctx context.Context) error {
	if !w.able() {
		return nil
	}
	var current bus.WitnessGrant
	if err := w.dir.load(grantFile, &current); err != nil {
		return err
	}
	for ctx.Err() == nil {
		next, err := w.follow(ctx, current)
		if err != nil {
			return err
		}
		current = next
	}
	return nil
}

// follow runs the witness of one grant, or none, and returns the next grant when the Boosters have decided so.
func (w *witness) follow(ctx context.Context, grant bus.WitnessGrant) (bus.WitnessGrant, error) {
	inner, cancel := context.WithCancel(ctx)
	over := make(chan error, 1)
	if grant.Agent == w.name {
		w.log.Info().Str("witness", grant.Name).Str("address", grant.Address).Msg("this host is the witness of the Boosters")
		child := supervise.New(w.spec(grant), w.log)
		child.Start()
		w.set(child)
		go func() { over <- child.Run(inner) }()
	} else {
		close(over)
	}
	next := w.await(ctx, grant)
	cancel()
	err := <-over
	w.set(nil)
	if ctx.Err() != nil || err != nil {
		return grant, err
	}
	return w.adopt(ctx, next), nil
}

// await returns when the grant in CONTROL is another one, or ctx ends. While no Booster answers nothing changes.
func (w *witness) await(ctx context.Context, grant bus.WitnessGrant) bus.WitnessGrant {
	tick := time.NewTicker(grantEvery)
	defer tick.Stop()
	for {
		if next, err := w.ask(ctx); err == nil && next.Name != grant.Name && (next.Agent == w.name || grant.Agent == w.name) {
			return next
		}
		select {
		case <-ctx.Done():
			return grant
		case <-tick.C:
		}
	}
}

// ask reads the grant, and on the way how the Boosters see this host.
func (w *witness) ask(ctx context.Context) (bus.WitnessGrant, error) {
	ctx, cancel := context.WithTimeout(ctx, grantTimeout)
	defer cancel()
	w.mu.Lock()
	if w.ip == "" {
		if ip, err := w.client.NC.GetClientIP(); err == nil {
			w.ip = ip.String()
		}
	}
	w.mu.Unlock()
	var grant bus.WitnessGrant
	kv, err := w.client.JS.KeyValue(ctx, bus.BucketControl)
	if err != nil {
		return grant, err
	}
	entry, err := kv.Get(ctx, bus.KeyWitness)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return grant, nil // nobody is witness
	}
	if err != nil {
		return grant, err
	}
	return grant, json.Unmarshal(entry.Value(), &grant)
}

// adopt writes down the new grant, or one that has replaced it meanwhile, and returns it. What is not written down is not followed; a
// full disk, for one, is waited for.
func (w *witness) adopt(ctx context.Context, grant bus.WitnessGrant) bus.WitnessGrant {
	said := ""
	for {
		err := w.note(grant)
		if err == nil {
			return grant
		}
		if err.Error() != said {
			said = err.Error()
			w.log.Error().Err(err).Msg("who is witness cannot be written down; trying again")
		}
		if !bus.Sleep(ctx, grantEvery) {
			return grant
		}
		if next, err := w.ask(ctx); err == nil {
			grant = next
		}
	}
}

// note writes down a grant and removes the stores of earlier ones: a witness that was replaced never comes back.
func (w *witness) note(grant bus.WitnessGrant) error {
	if err := w.dir.save(grantFile, grant); err != nil {
		return err
	}
	root := filepath.Join(w.dir.path, witnessDirs)
	entries, err := os.ReadDir(root)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for earlier witnesses: %w", err)
	}
	for _, e := range entries {
		if e.Name() != grant.Name {
			if err := os.RemoveAll(filepath.Join(root, e.Name())); err != nil {
				return fmt.Errorf("remove an earlier witness: %w", err)
			}
		}
	}
	return nil
}

func (w *witness) spec(grant bus.WitnessGrant) supervise.Spec {
	env := append(os.Environ(),
		"WITNESS_NAME="+grant.Name, "WITNESS_ADDRESS="+grant.Address, "WITNESS_LISTEN="+w.cfg.WitnessListen,
		"WITNESS_BOOSTERS="+strings.Join(grant.Boosters, ","),
		"WITNESS_DATA_DIR="+filepath.Join(w.dir.path, witnessDirs, grant.Name), "LOG_FORMAT=json")
	return supervise.Spec{
		Name: "witness", Command: w.command, Dir: w.dir.path, Env: env, Owner: w.mark, ReadyEvery: w.cfg.HealthEvery,
		StopTimeout: w.cfg.StopTimeout, RestartMin: w.cfg.RestartMin, RestartMax: w.cfg.RestartMax,
	}
}

// errWitnessBusy is returned while this host must not be touched, because it is the witness of Boosters that could not do without it.
var errWitnessBusy = errors.New("this host is the witness, and the Boosters need it")

// spare tells whether the Boosters could do without this host for a while: it is not the witness, or everybody has everything.
func (w *witness) spare(ctx context.Context) error {
	w.mu.Lock()
	runs := w.child != nil
	w.mu.Unlock()
	if !runs {
		return nil
	}
	nodes, err := bus.Nodes(ctx, w.client.JS)
	if err != nil {
		return err
	}
	takeover := "no Booster is active"
	for _, n := range nodes {
		if n.Booster != nil && n.Booster.Duty == bus.DutyActive {
			takeover = n.Booster.Takeover
		}
	}
	if takeover != bus.TakeoverOK {
		return fmt.Errorf("%w: %s", errWitnessBusy, takeover)
	}
	return nil
}

func (w *witness) set(child *supervise.Child) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.child = child
}

// describe fills in what the heartbeat says of the witness.
func (w *witness) describe(state *bus.AgentState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	state.Witness, state.WitnessState = w.cfg.Witness, stateNone
	if !w.able() {
		state.Witness = "off"
		return
	}
	state.WitnessFree, state.WitnessBytes = w.room()
	if w.ip != "" {
		state.WitnessAddress = net.JoinHostPort(w.ip, strconv.Itoa(w.cfg.WitnessPort))
	}
	if w.child != nil {
		status := w.child.Status()
		state.WitnessState, state.WitnessPID = string(status.State), status.PID
		if status.Error != "" {
			state.LastError = strings.TrimPrefix(state.LastError+"; witness: "+status.Error, "; ")
		}
	}
}

// room is what the disk of a witness here has: free bytes, 0 when that is not known, and those of its copies. The queue must fit on
// every member's disk.
func (w *witness) room() (free, used int64) {
	if usage, err := disk.Usage(w.dir.path); err == nil {
		free = int64(min(usage.Free, math.MaxInt64))
	}
	if w.child == nil {
		return free, 0
	}
	_ = filepath.WalkDir(filepath.Join(w.dir.path, witnessDirs), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				used += info.Size()
			}
		}
		return nil // files come and go
	})
	return free, used
}
