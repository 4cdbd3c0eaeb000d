package broker

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

const joinTimeout = 30 * time.Second // an agent hears of its appointment, starts the witness, and this joins

// routes are the members that this Booster dials: the other Booster and, if one is known, the witness. The Boosters dial the witness, never
// the other way round, because its host has one port open to them.
func (b *Broker) routes(witness string) []string {
	routes := []string{hostPort(b.cfg.HAIP, b.cfg.HAClusterPort)}
	if witness != "" {
		routes = append(routes, witness)
	}
	return routes
}

// followWitness dials the witness that was appointed last, and remembers it for the next start: after a full stop this Booster and the
// witness must find each other without the other Booster.
func (b *Broker) followWitness(v *view) error {
	if v.grant == nil || v.grant.Address == b.store.bootState().Witness {
		return nil
	}
	if err := b.setRoutes(b.routes(v.grant.Address)); err != nil {
		return err
	}
	if err := b.store.change(func(m *bootState) { m.Witness = v.grant.Address }); err != nil {
		return err
	}
	b.log.Info().Str("witness", v.grant.Name).Str("address", v.grant.Address).Msg("witness known")
	return nil
}

// appointWitness makes one agent the witness when the cluster has two Boosters and needs a third vote, and replaces it when its host has
// been silent for too long.
func (b *Broker) appointWitness(ctx context.Context, v *view) error {
	boosters, online := 0, map[string]bool{}
	for _, p := range v.peers {
		online[p.name] = p.online
		if p.name != "" && !isWitness(p.name) {
			boosters++
		}
	}
	if v.grant != nil && online[v.grant.Name] {
		b.witnessSeen = time.Now()
		return nil
	}
	if boosters != 2 || (v.grant != nil && time.Since(b.witnessSeen) < b.witnessTimeout(v)) {
		return nil // enough votes without one, or it may yet come
	}
	nodes, err := bus.Nodes(ctx, b.js)
	if err != nil {
		return err
	}
	for _, p := range v.peers {
		if p.online && p.name != "" && !isWitness(p.name) && !heard(nodes, bus.ServiceBooster, p.name) {
			return nil // which hosts have a Booster is not known yet
		}
	}
	agent := b.chooseAgent(nodes, v.grant)
	if agent == nil || b.names.missing() {
		return nil // status says loudly that there is no witness; which host a name is, the next look knows
	}
	grant := bus.WitnessGrant{
		Agent: agent.Name, Name: bus.WitnessPrefix + bus.Token(agent.Name) + "-" + strings.ToLower(rand.Text()[:6]),
		Address: agent.Agent.WitnessAddress, Granted: time.Now().UTC(),
		Boosters: []string{hostPort(b.cfg.IP, b.cfg.ClusterPort), hostPort(b.cfg.HAIP, b.cfg.HAClusterPort)},
	}
	kv, err := b.js.KeyValue(ctx, bus.BucketControl)
	if err != nil {
		return fmt.Errorf("open %s: %w", bus.BucketControl, err)
	}
	// By revision: no other Booster that believes it is active has decided meanwhile.
	if v.grant == nil {
		_, err = kv.Create(ctx, bus.KeyWitness, grant.Encode())
	} else {
		_, err = kv.Update(ctx, bus.KeyWitness, grant.Encode(), v.revision)
	}
	if err != nil {
		return fmt.Errorf("appoint %s as witness: %w", agent.Name, err)
	}
	b.witnessSeen = time.Now()
	b.log.Info().Str("agent", agent.Name).Str("address", grant.Address).Msg("witness appointed")
	return nil
}

// witnessTimeout is how long the witness may be silent before another takes its place. One that has yet to start and join gets the time
// for it: otherwise, on a busy host, two agents would take the role from each other for ever, and each turn could leave a dead member with
// a vote.
func (b *Broker) witnessTimeout(v *view) time.Duration {
	if slices.ContainsFunc(v.peers, func(p peer) bool { return p.name == v.grant.Name }) {
		return b.cfg.WitnessAfter
	}
	return max(b.cfg.WitnessAfter, joinTimeout)
}

// chooseAgent picks a living agent for the witness: one that was told to (AGENT_WITNESS=on) before one that may (auto), of equals the one
// whose disk has most room up to what is needed. A witness that dies together with a Booster is worth nothing, so an agent on a Booster's
// host is none, unless it was told to and there is no other: then status says so. Who cannot be the witness, and why, is noted.
func (b *Broker) chooseAgent(nodes []bus.Node, stale *bus.WitnessGrant) *bus.Node {
	h := b.boosterHosts(nodes)
	var best *bus.Node
	var bestRank [2]int64
	b.unfit = nil
	for i, n := range nodes {
		if n.Agent == nil || n.Agent.WitnessAddress == "" || n.Agent.Witness == "off" ||
			(stale != nil && n.Name == stale.Agent && time.Since(n.Started) > b.cfg.WitnessAfter) {
			continue
		}
		told, booster := n.Agent.Witness == "on", h.booster(n.Agent.WitnessAddress)
		if reason := b.unfitness(n, booster, told); reason != "" {
			b.unfit = append(b.unfit, n.Name+" "+reason)
			continue
		}
		rank := [2]int64{0, b.limit}
		if free := n.Agent.WitnessFree; free > 0 {
			rank[1] = min(b.limit, room{used: n.Agent.WitnessBytes, free: free}.bytes())
		}
		switch {
		case booster == "" && told:
			rank[0] = 2
		case booster == "":
			rank[0] = 1
		}
		if best == nil || slices.Compare(rank[:], bestRank[:]) > 0 {
			best, bestRank = &nodes[i], rank
		}
	}
	return best
}

// unfitness says why an agent cannot be the witness; empty: it can. booster is the Booster on its host.
func (b *Broker) unfitness(n bus.Node, booster string, told bool) string {
	host, _, _ := net.SplitHostPort(n.Agent.WitnessAddress)
	ip, other := net.ParseIP(host), net.ParseIP(b.cfg.HAIP)
	switch {
	case n.Agent.WitnessFree > 0 && n.Agent.WitnessFree < minFree:
		return fmt.Sprintf("has only %d MB free in AGENT_DATA_DIR", n.Agent.WitnessFree/mib)
	case ip.IsLoopback() && !other.IsLoopback() && b.cfg.HAIP != "localhost":
		return "reaches its Booster at " + host + ", where the other Booster cannot reach a witness (set AGENT_IP)"
	case booster != "" && !told:
		return "runs on the host of Booster " + booster
	}
	return ""
}

// stale finds a member whose place another has taken: a former witness, or a Booster that came back with an empty data directory and so
// under a new name. Once both Boosters and the witness of the grant are online, every other member is stale. nil: there is none.
func (v *view) stale() *peer {
	boosters, witness := 0, v.grant == nil
	for _, p := range v.peers {
		switch {
		case !p.online || p.name == "":
		case !isWitness(p.name):
			boosters++
		case v.grant != nil && p.name == v.grant.Name:
			witness = true
		}
	}
	i := slices.IndexFunc(v.peers, func(p peer) bool {
		switch {
		case p.name == "": // not seen since everybody was started
			return boosters == 2 && witness
		case isWitness(p.name):
			return v.grant == nil || witness && p.name != v.grant.Name
		default:
			return !p.online && boosters == 2
		}
	})
	if i < 0 {
		return nil
	}
	return &v.peers[i]
}

// dismiss removes a former member, once its successor is there: the cluster never has fewer votes than it needs.
func (b *Broker) dismiss(ctx context.Context, v *view) error {
	old := v.stale()
	if old == nil {
		return nil
	}
	if err := b.removeMember(ctx, *old); err != nil {
		return err
	}
	b.log.Info().Str("member", cmp.Or(old.name, old.id)).Msg("former member removed")
	return nil
}

// removeMember takes a member out of the cluster, and its copies of the streams with it. Only the leader of the meta group can.
func (b *Broker) removeMember(ctx context.Context, p peer) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	reply, err := b.sys.RequestWithContext(ctx, bus.MemberRemove, fmt.Appendf(nil, `{"peer":%q,"peer_id":%q}`, p.name, p.id))
	if err == nil {
		err = apiError(reply.Data)
	}
	if err != nil {
		return fmt.Errorf("remove member %s: %w", cmp.Or(p.name, p.id), err)
	}
	return nil
}
