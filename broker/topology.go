package broker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

const (
	controlEvery  = time.Second
	createTimeout = time.Minute // before a missing stream is made anew
	maxReplicas   = 3
)

// view is what a Booster knows of the cluster at one moment.
type view struct {
	metaLeader string                // member that decides on streams and members; empty when there is none
	size       int                   // members, witness and dead ones included
	peers      []peer                // known to the meta leader only, itself included
	names      []string              // of all streams that there are
	streams    map[string]streamView // those of them whose leader answered
	grant      *bus.WitnessGrant
	revision   uint64 // of the grant in CONTROL
}

type peer struct {
	name    string // empty while the server does not know it: a member that was not seen since everybody was started
	id      string
	online  bool
	current bool
}

type streamView struct {
	config   jetstream.StreamConfig
	leader   string
	messages uint64
	bytes    uint64
	members  []*jetstream.PeerInfo // without the leader
}

// isCurrent tells whether a member of a stream holds all of it.
func (s streamView) isCurrent(name string) bool {
	if s.leader == name {
		return true
	}
	return slices.ContainsFunc(s.members, func(p *jetstream.PeerInfo) bool { return p.Name == name && p.Current && !p.Offline })
}

func isWitness(name string) bool { return strings.HasPrefix(name, bus.WitnessPrefix) }

// controlTopology keeps the cluster in shape until ctx ends. What is wrong is looked at anew each second, so a decision that fails, or
// that the cluster has overtaken, is simply made again.
func (b *Broker) controlTopology(ctx context.Context) {
	var last string
	for ctx.Err() == nil {
		b.names.resolve(ctx)
		b.placing.Lock()
		err := b.control(ctx)
		b.placing.Unlock()
		switch {
		case err == nil:
			last = "" // the same thing later is news
		case ctx.Err() == nil && err.Error() != last:
			last = err.Error()
			b.log.Warn().Err(err).Msg("cluster not in shape yet")
		}
		bus.Sleep(ctx, controlEvery)
	}
}

func (b *Broker) control(ctx context.Context) error {
	v, err := b.look(ctx)
	if err == nil && !b.growing.Load() { // a growth may have to mend CONTROL first
		err = b.readGrant(ctx, v)
	}
	b.view.Store(v)
	if err != nil || !b.leads() || v.metaLeader != b.name() {
		b.witnessSeen = time.Now() // who becomes active, or has a majority again, has not waited for the witness yet
		b.surroundings = surroundings{}
	}
	if err != nil {
		return err
	}
	if err := b.followWitness(v); err != nil {
		return err
	}
	if b.growing.Load() {
		if err := b.finishGrowth(ctx, v); err != nil {
			return err
		}
		b.growing.Store(false)
		return nil
	}
	if len(bus.MissingStreams(v.names)) > 0 {
		return b.createStreams(ctx, v)
	}
	b.missingSince = time.Time{}
	if _, answered := v.streams[bus.StreamWork]; !answered {
		return fmt.Errorf("nobody leads %s yet", bus.StreamWork)
	}
	if err := b.placeLeaders(ctx, v); err != nil {
		return err
	}
	if !b.leads() || v.metaLeader != b.name() {
		return nil
	}
	if err := b.dismiss(ctx, v); err != nil {
		return err
	}
	if err := b.setReplicas(ctx, v); err != nil {
		return err
	}
	return errors.Join(b.appointWitness(ctx, v), b.keep(ctx, v))
}

func (b *Broker) name() string { return b.store.bootState().Name }

// look asks the own server and, for the streams, the cluster. Who is witness is not in it.
func (b *Broker) look(ctx context.Context) (*view, error) {
	v := &view{streams: map[string]streamView{}}
	js, err := b.server.Jsz(&server.JSzOptions{})
	if err != nil || js.Meta == nil {
		return v, errors.Join(errors.New("the server does not tell about the cluster"), err)
	}
	v.metaLeader, v.size = js.Meta.Leader, js.Meta.Size
	if v.metaLeader == "" {
		return v, errors.New("no majority: less than half of the members are there")
	}
	if v.metaLeader == b.name() {
		v.peers = append(v.peers, peer{b.name(), js.Meta.Peer, true, true})
		for _, p := range js.Meta.Replicas {
			name := p.Name
			if strings.HasPrefix(name, "Server name unknown") { // the server's words for it
				name = ""
			}
			v.peers = append(v.peers, peer{name, p.Peer, !p.Offline && p.Active < 10*time.Second, p.Current})
		}
	}
	return v, b.lookAtStreams(ctx, v)
}

// lookAtStreams adds to a view which streams there are, and what their leaders say.
func (b *Broker) lookAtStreams(ctx context.Context, v *view) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	names := b.js.StreamNames(ctx)
	for name := range names.Name() {
		v.names = append(v.names, name)
	}
	if err := names.Err(); err != nil {
		return fmt.Errorf("list streams: %w", err)
	}
	list := b.js.ListStreams(ctx)
	for info := range list.Info() {
		s := streamView{config: info.Config, messages: info.State.Msgs, bytes: info.State.Bytes}
		if info.Cluster != nil {
			s.leader, s.members = info.Cluster.Leader, info.Cluster.Replicas
		}
		v.streams[info.Config.Name] = s
	}
	if err := list.Err(); err != nil {
		return fmt.Errorf("list streams: %w", err)
	}
	return nil
}

// readGrant adds who is witness to a view.
func (b *Broker) readGrant(ctx context.Context, v *view) error {
	if !slices.Contains(v.names, bus.BucketStream(bus.BucketControl)) {
		return nil
	}
	value, revision, err := bus.ReadKey(ctx, b.js, bus.BucketControl, bus.KeyWitness)
	if err != nil {
		return fmt.Errorf("who is witness: %w", err)
	}
	v.revision = revision
	if len(value) == 0 {
		return nil
	}
	v.grant = &bus.WitnessGrant{}
	if err := json.Unmarshal(value, v.grant); err != nil {
		return fmt.Errorf("who is witness: %w", err)
	}
	return nil
}

// served tells whether every stream has been there since this Booster was started.
func (b *Broker) served() bool {
	select {
	case <-b.ready:
		return true
	default:
		return false
	}
}

// createStreams makes the streams of a new cluster, or one that is missing for long. The leader of the meta group does it, so that it
// happens once. A stream that is missing for a moment is left alone: `omflow-booster restore` replaces streams one after the
// other.
func (b *Broker) createStreams(ctx context.Context, v *view) error {
	if b.missingSince.IsZero() {
		b.missingSince = time.Now()
	}
	if v.metaLeader != b.name() || (b.served() && time.Since(b.missingSince) < createTimeout) {
		return nil
	}
	if err := b.othersAgree(ctx, v); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	b.log.Info().Int("replicas", replicas(v)).Msg("making the streams")
	return bus.Ensure(ctx, b.js, b.layout(replicas(v)))
}

// replicas is how many copies the members allow: dead members count, for they come back or are removed.
func replicas(v *view) int { return max(1, min(maxReplicas, v.size)) }

// placeLeaders brings every leadership to one Booster: off the witness, which only votes and stores, and to where WORK is led, so that one
// Booster can go without the other noticing. Only a member that has everything may lead.
func (b *Broker) placeLeaders(ctx context.Context, v *view) error {
	work := v.streams[bus.StreamWork]
	if isWitness(work.leader) {
		if !work.isCurrent(b.name()) {
			return fmt.Errorf("%s leads %s, and this Booster has not caught up", work.leader, bus.StreamWork)
		}
		return b.takeLead(ctx, bus.StreamStepDown(bus.StreamWork))
	}
	if !b.leads() {
		return nil
	}
	if v.metaLeader != b.name() {
		if err := b.takeLead(ctx, bus.MetaStepDown); err != nil {
			return err
		}
	}
	for name, s := range v.streams {
		if s.leader != b.name() && s.leader != "" && s.isCurrent(b.name()) {
			if err := b.takeLead(ctx, bus.StreamStepDown(name)); err != nil {
				return err
			}
		}
	}
	return nil // for the workers' consumer see keepWorkers
}

// takeLead has the leader of a group step down in favour of this Booster.
func (b *Broker) takeLead(ctx context.Context, subject string) error {
	return b.moveLead(ctx, subject, b.name())
}

func (b *Broker) moveLead(ctx context.Context, subject, to string) error {
	nc := b.nc
	if subject == bus.MetaStepDown {
		nc = b.sys
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	reply, err := nc.RequestWithContext(ctx, subject, fmt.Appendf(nil, `{"placement":{"preferred":%q}}`, to))
	if err != nil {
		return fmt.Errorf("move leadership to %s (%s): %w", to, subject, err)
	}
	if err := apiError(reply.Data); err != nil {
		return fmt.Errorf("move leadership to %s (%s): %w", to, subject, err)
	}
	b.log.Info().Str("to", to).Str("group", strings.TrimPrefix(subject, bus.APIPrefix)).Msg("leadership moved")
	return nil
}

// apiError is the error in an answer of the JetStream API, or nil.
func apiError(data []byte) error {
	var answer struct {
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return fmt.Errorf("answer of the server: %w", err)
	}
	if answer.Error != nil {
		return answer.Error
	}
	return nil
}

// setReplicas gives every stream as many replicas as there are members, one stream at a time and only while everybody is there.
func (b *Broker) setReplicas(ctx context.Context, v *view) error {
	want := replicas(v)
	online := 0
	for _, p := range v.peers {
		if p.online {
			online++
		}
	}
	for name, s := range v.streams {
		if s.config.Replicas == want || (s.config.Replicas < want && online < want) {
			continue
		}
		cfg := s.config
		cfg.Replicas = want
		call, cancel := context.WithTimeout(ctx, 2*callTimeout)
		_, err := b.js.UpdateStream(call, cfg)
		cancel()
		if err != nil {
			return fmt.Errorf("bring %s from %d to %d replicas: %w", name, s.config.Replicas, want, err)
		}
		b.log.Info().Str("stream", name).Int("from", s.config.Replicas).Int("replicas", want).Msg("replicas changed")
	}
	return nil
}

// takeover says whether the other Booster could take over now.
func (b *Broker) takeover() string {
	if b.cfg.mode() == modeStandalone {
		return "one Booster: no standby, no automatic takeover"
	}
	v, said := b.view.Load(), b.audit.Verdict() // others replace them
	switch {
	case v == nil:
		return "not known yet"
	case v.metaLeader == "":
		return "no majority of Boosters and witness"
	case !b.leads():
		return "" // the active says it
	case said != nil && said.Finding != "":
		return "no automatic takeover: " + said.Finding
	case v.size < 3:
		return "no automatic takeover: no witness"
	}
	for _, p := range v.peers {
		if !p.online {
			return "no automatic takeover: " + cmp.Or(p.name, "a member that was not seen since the start") + " does not answer"
		}
	}
	for name, s := range v.streams {
		if s.config.Replicas < 3 {
			return fmt.Sprintf("no automatic takeover yet: %s has %d replicas", name, s.config.Replicas)
		}
		for _, m := range s.members {
			switch {
			case m.Offline:
				return "no automatic takeover: " + m.Name + " does not answer"
			case !m.Current:
				return fmt.Sprintf("no automatic takeover yet: %s copies %s", m.Name, name)
			}
		}
	}
	return said.Takeover()
}
