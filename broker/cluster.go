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
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

const maxReplicas = 3

// cluster is the cluster as the NATS server of this member knows it, and takes the orders that only the cluster can carry out. A single
// Booster is a cluster of one.
type cluster struct {
	name   string // of this member
	single bool   // there is no other one
	node   *node
	log    zerolog.Logger
}

func newCluster(name, mode string, n *node, log zerolog.Logger) *cluster {
	return &cluster{name: name, single: mode == modeStandalone, node: n, log: log}
}

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

// replicas is how many copies the members allow: dead members count, for they come back or are removed.
func replicas(v *view) int { return max(1, min(maxReplicas, v.size)) }

// leads tells whether this Booster leads WORK, as far as it knows. A single one always does.
func (c *cluster) leads() bool {
	return c.single || c.node.server.JetStreamIsStreamLeader("$G", bus.StreamWork)
}

// decides tells whether this Booster leads WORK and decides on streams and members, too.
func (c *cluster) decides(v *view) bool { return c.leads() && v.metaLeader == c.name }

// look asks the own server and, for the streams, the cluster. Who is witness is not in it.
func (c *cluster) look(ctx context.Context) (*view, error) {
	v := &view{streams: map[string]streamView{}}
	js, err := c.node.server.Jsz(&server.JSzOptions{})
	if err != nil || js.Meta == nil {
		return v, errors.Join(errors.New("the server does not tell about the cluster"), err)
	}
	v.metaLeader, v.size = js.Meta.Leader, js.Meta.Size
	if v.metaLeader == "" {
		return v, errors.New("no majority: less than half of the members are there")
	}
	if v.metaLeader == c.name {
		v.peers = append(v.peers, peer{c.name, js.Meta.Peer, true, true})
		for _, p := range js.Meta.Replicas {
			name := p.Name
			if strings.HasPrefix(name, "Server name unknown") { // the server's words for it
				name = ""
			}
			v.peers = append(v.peers, peer{name, p.Peer, !p.Offline && p.Active < 10*time.Second, p.Current})
		}
	}
	return v, c.lookAtStreams(ctx, v)
}

// lookAtStreams adds to a view which streams there are, and what their leaders say.
func (c *cluster) lookAtStreams(ctx context.Context, v *view) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	names := c.node.js.StreamNames(ctx)
	for name := range names.Name() {
		v.names = append(v.names, name)
	}
	if err := names.Err(); err != nil {
		return fmt.Errorf("list streams: %w", err)
	}
	list := c.node.js.ListStreams(ctx)
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
func (c *cluster) readGrant(ctx context.Context, v *view) error {
	if !slices.Contains(v.names, bus.BucketStream(bus.BucketControl)) {
		return nil
	}
	value, revision, err := bus.ReadKey(ctx, c.node.js, bus.BucketControl, bus.KeyWitness)
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

// takeLead has the leader of a group step down in favour of this Booster.
func (c *cluster) takeLead(ctx context.Context, subject string) error {
	return c.moveLead(ctx, subject, c.name)
}

func (c *cluster) moveLead(ctx context.Context, subject, to string) error {
	nc := c.node.nc
	if subject == bus.MetaStepDown {
		nc = c.node.sys
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
	c.log.Info().Str("to", to).Str("group", strings.TrimPrefix(subject, bus.APIPrefix)).Msg("leadership moved")
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

// removeMember takes a member out of the cluster, and its copies of the streams with it. Only the leader of the meta group can.
func (c *cluster) removeMember(ctx context.Context, p peer) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	reply, err := c.node.sys.RequestWithContext(ctx, bus.MemberRemove, fmt.Appendf(nil, `{"peer":%q,"peer_id":%q}`, p.name, p.id))
	if err == nil {
		err = apiError(reply.Data)
	}
	if err != nil {
		return fmt.Errorf("remove member %s: %w", cmp.Or(p.name, p.id), err)
	}
	return nil
}
