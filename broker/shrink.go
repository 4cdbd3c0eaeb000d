package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/snapshot"
)

// Going on alone, by order of an operator and while the service is stopped: from two Boosters back to one, or after the others
// are lost for good. A store of a cluster is of no use to a single server, so the streams travel through a snapshot, as they do
// in growing (grow.go). Whatever ends it in the middle, the next start goes on from there, and the old store is kept until the
// new one is checked.
//
//	member ──Shrink: snapshot──▶ taken ──started without HA_BOOSTER_IP: store set aside──▶ restoring ──checked──▶ alone
//	                                └──started with HA_BOOSTER_IP: the streams go into a new cluster (grow.go)
const (
	placeholderPeer = "placeholder-peer" // name of the server without a store beside a member that recovers

	shrinkTimeout = 2 * time.Minute  // until all streams are led
	rescuePause   = 15 * time.Second // between attempts to become the majority: each starts a new election
)

// ShrinkOptions say how a member goes on alone.
type ShrinkOptions struct {
	// Lost: the other members are lost for good. What this one holds is taken without asking anybody.
	Lost bool
	// Gone: the other Booster does not answer, and will not be started again with the data directory that it has.
	Gone     bool
	Confirm  func(booster string) error // asked with the name of this Booster before anything is done; nil: it is
	Progress func(snapshot.Progress)
}

// ShrinkReport is what a member takes along.
type ShrinkReport struct {
	Booster  string   `json:"booster"`
	Streams  int      `json:"streams"`
	Messages uint64   `json:"messages"`
	Bytes    uint64   `json:"bytes"`
	Left     []string `json:"left"` // members that were left behind, as far as they are known
}

// shrinker is a member that goes on alone.
type shrinker struct {
	cfg      Config
	store    *store
	listener *listener
	log      zerolog.Logger
	cluster  *cluster // from startMember on
}

// Shrink makes a single Booster of a member of a cluster: it takes everything into a snapshot, which the next start restores.
// The Booster's service must not run. Without ShrinkOptions.Lost it needs a majority, and tells the other Booster to serve
// nobody any more, so that there is never more than one queue. It returns a *config.Error when the data directory is not that
// of a member, and changes nothing unless it says so.
func Shrink(ctx context.Context, cfg Config, log zerolog.Logger, o ShrinkOptions) (ShrinkReport, error) {
	no := func(what string) error {
		return &config.Error{
			Var: "BOOSTER_DATA_DIR", Problem: fmt.Sprintf("the Booster of %s %s", cfg.DataDir, what),
			Fix: "there is nothing to do; start it without HA_BOOSTER_IP",
		}
	}
	if err := cfg.Validate(); err != nil {
		return ShrinkReport{}, err
	}
	if _, err := os.Stat(filepath.Join(cfg.DataDir, bootStateName)); errors.Is(err, os.ErrNotExist) {
		return ShrinkReport{}, no("has never run, so it is no member of a cluster")
	}
	s, err := openStore(ctx, cfg.DataDir, cfg.Name, modeCluster)
	if err != nil {
		return ShrinkReport{}, err
	}
	defer s.close()
	name := s.bootState().Name
	report := ShrinkReport{Booster: name}
	switch {
	case s.bootState().Mode != modeCluster || s.growing():
		return report, no("is no member of a cluster")
	case s.bootState().Shrink != "":
		return report, no("goes on alone already")
	}
	if o.Confirm != nil {
		if err := o.Confirm(name); err != nil {
			return report, err
		}
	}
	m := &shrinker{cfg: cfg, store: s, listener: newListener(cfg.place(), cfg.DataDir, log), log: log}
	stop, err := m.startMember(ctx, o.Lost)
	if err != nil {
		return report, err
	}
	defer stop()
	if o.Lost {
		report.Left, err = m.takeMajority(ctx)
	} else {
		report.Left, err = m.leaveOthers(ctx, o.Gone)
	}
	if err != nil {
		return report, err
	}
	if err := os.RemoveAll(s.path(growthDir)); err != nil { // of an attempt that ended in the middle
		return report, err
	}
	m.awaitAnswer(ctx)
	along, err := snapshot.Take(ctx, m.cluster.node.js, s.path(growthDir), snapshot.TakeOptions{Progress: o.Progress})
	if err != nil {
		return report, fmt.Errorf("take everything along: %w; run the same command again", err)
	}
	taken := []string{bus.BucketStream(bus.BucketNodes)} // heartbeats stay
	for _, s := range along.Streams {
		taken = append(taken, s.Name)
	}
	if missing := bus.MissingStreams(taken); len(missing) > 0 {
		return report, fmt.Errorf("take everything along: not there: %s", strings.Join(missing, ", "))
	}
	report.Streams = len(along.Streams)
	report.Messages, report.Bytes = along.Totals()
	return report, s.change(func(b *bootState) { b.Shrink, b.Witness = shrinkTaken, "" })
}

// awaitAnswer waits, for an election and a bit, until a leader answers for the members: the leader of before may just have left.
func (m *shrinker) awaitAnswer(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for ok := true; ok; ok = bus.Sleep(ctx, 200*time.Millisecond) {
		if _, err := m.cluster.node.js.AccountInfo(ctx); err == nil {
			return
		}
	}
}

// startMember starts the server for the other members alone: no client gets in. Nobody at all does when the others are lost.
func (m *shrinker) startMember(ctx context.Context, lost bool) (stop func(), err error) {
	opts := nodeOptions(m.store.bootState().Name, m.store.dir, m.cfg.sync())
	opts.Host, opts.Port = "127.0.0.1", -1
	host, err := m.listener.host(ctx)
	if err != nil {
		return nil, err
	}
	port, advertise, routes := m.cfg.ClusterPort, m.cfg.ownMember(), m.cfg.routes(m.store.bootState().Witness)
	stopPeer := func() {}
	var n *node
	if lost {
		var route string
		if route, stopPeer, err = startPlaceholderPeer(); err != nil {
			return nil, err
		}
		host, port, advertise, routes = "127.0.0.1", -1, "", []string{route}
	}
	if err = clustered(opts, host, port, advertise, routes); err == nil {
		starting, cancel := context.WithTimeout(ctx, m.cfg.ReadyAfter)
		n, err = startNode(starting, opts, m.log)
		cancel()
	}
	if err != nil {
		stopPeer()
		return nil, err
	}
	m.cluster = newCluster(opts.ServerName, modeCluster, n, m.log)
	return func() { n.stop(); stopPeer() }, nil
}

// startPlaceholderPeer starts a server without a store. A member that has no connection to any other does nothing at all (nats-server
// 2.15.2, raft.go:2812).
func startPlaceholderPeer() (route string, stop func(), err error) {
	opts := &server.Options{ServerName: placeholderPeer, Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true}
	opts.Cluster = server.ClusterOpts{Name: clusterName, Host: "127.0.0.1", Port: -1}
	srv, err := server.NewServer(opts)
	if err != nil {
		return "", nil, fmt.Errorf("start a placeholder peer for the only member: %w", err)
	}
	srv.Start()
	stop = func() { srv.Shutdown(); srv.WaitForShutdown() }
	if !srv.ReadyForConnections(callTimeout) {
		stop()
		return "", nil, errors.New("start a placeholder peer for the only member: it does not come up")
	}
	return srv.ClusterAddr().String(), stop, nil
}

// leaveOthers finds the majority, leads the members, and has the other Booster leave.
func (m *shrinker) leaveOthers(ctx context.Context, gone bool) (left []string, err error) {
	v, err := m.settled(ctx, func(v *view) error {
		if v.metaLeader == "" || v.metaLeader == m.cluster.name {
			return nil
		}
		return errors.Join(errors.New("taking the lead"), m.cluster.takeLead(ctx, bus.MetaStepDown))
	})
	if err != nil {
		return nil, fmt.Errorf("%w; start the other Booster, or the agent of the witness. If they are lost for good, see `omflow-booster "+
			"cluster recover --help`", err)
	}
	for _, p := range v.peers {
		switch {
		case p.name == m.cluster.name:
			continue
		case p.online && !isWitness(p.name):
			if err := m.cluster.tellToLeave(ctx, p.name); err != nil {
				return left, err
			}
		case !p.online && !isWitness(p.name) && !gone:
			return left, fmt.Errorf("%s does not answer, and would go on without this one when it comes back: start it, or give --gone "+
				"if it will not be started again with the data directory that it has", memberName(p))
		}
		left = append(left, memberName(p))
	}
	return left, nil
}

func memberName(p peer) string {
	if p.name == "" {
		return "a member that was not seen since the start"
	}
	return p.name
}

// takeMajority makes this member the only one, by lowering what counts as a majority and removing the others.
func (m *shrinker) takeMajority(ctx context.Context) (left []string, err error) {
	var asked time.Time
	_, err = m.settled(ctx, func(v *view) error {
		if v.metaLeader == "" && time.Since(asked) < rescuePause {
			return nil
		}
		if v.metaLeader == "" {
			asked = time.Now()
			reply, err := m.cluster.node.sys.Request(bus.MetaRescue, []byte(`{"quorum_needed":1}`), callTimeout)
			if err == nil {
				err = apiError(reply.Data)
			}
			return err
		}
		for _, p := range v.peers {
			if p.name != m.cluster.name {
				if err := m.cluster.removeMember(ctx, p); err != nil {
					return err
				}
				left = append(left, memberName(p))
				return fmt.Errorf("%s was removed", memberName(p))
			}
		}
		return nil
	})
	return left, err
}

// settled waits until settle has nothing to do and every stream has a leader, which holds all of it.
func (m *shrinker) settled(ctx context.Context, settle func(v *view) error) (*view, error) {
	ctx, cancel := context.WithTimeout(ctx, shrinkTimeout)
	defer cancel()
	for {
		v, err := m.cluster.look(ctx)
		err = errors.Join(err, settle(v))
		if err == nil {
			err = v.led()
		}
		if err == nil {
			return v, nil
		}
		m.log.Debug().Err(err).Msg("not in shape yet")
		if !bus.Sleep(ctx, 500*time.Millisecond) {
			return nil, fmt.Errorf("the cluster does not come up: %w", err)
		}
	}
}

// led tells whether every stream answers.
func (v *view) led() error {
	if missing := bus.MissingStreams(v.names); len(missing) > 0 {
		return fmt.Errorf("not there: %s", strings.Join(missing, ", "))
	}
	for _, name := range v.names {
		if v.streams[name].leader == "" && name != bus.BucketStream(bus.BucketNodes) {
			return fmt.Errorf("nobody leads %s", name)
		}
	}
	return nil
}

// finishShrink makes a single store of that of a member, which was told so, before anybody can connect.
func (m *move) finishShrink(ctx context.Context) error {
	if m.store.bootState().Shrink == "" {
		return nil
	}
	if err := m.store.shrink(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, m.startTimeout)
	defer cancel()
	if err := m.restoreShrunk(ctx); err != nil {
		return fmt.Errorf("go on alone: %w", err)
	}
	if err := m.reach("restored alone"); err != nil {
		return err
	}
	if err := m.store.change(func(b *bootState) { b.Shrink = "" }); err != nil {
		return err
	}
	return m.store.forgetOld()
}

// restoreShrunk brings the streams back and has them checked against the snapshot. No client gets in meanwhile: killed in the middle, this
// begins anew, and what a client was told is stored would be lost.
func (m *move) restoreShrunk(ctx context.Context) error {
	src, err := snapshot.OpenDir(m.store.path(growthDir))
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	hidden, err := m.startHidden(ctx, Sync{Always: true})
	if err != nil {
		return err
	}
	_, err = snapshot.Restore(ctx, hidden.js, src, snapshot.RestoreOptions{Replicas: 1, Progress: m.progress("restore")})
	if err == nil {
		err = dismissAll(ctx, hidden.js)
	}
	hidden.stop()
	if err == nil {
		err = m.store.Flush()
	}
	if err != nil {
		return err
	}
	messages, bytes := src.Manifest().Totals()
	m.log.Info().Uint64("messages", messages).Uint64("bytes", bytes).Msg("going on alone: queue restored and checked")
	return nil
}

// dismissAll notes that nobody is witness: there is nothing to vote on.
func dismissAll(ctx context.Context, js jetstream.JetStream) error {
	kv, err := js.KeyValue(ctx, bus.BucketControl)
	if err == nil {
		err = kv.Purge(ctx, bus.KeyWitness)
	}
	if err != nil {
		return fmt.Errorf("dismiss the witness: %w", err)
	}
	return nil
}
