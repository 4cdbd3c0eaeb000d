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

// appointer has one agent run the witness, and replaces one whose host is gone.
type appointer struct {
	cluster *cluster
	store   *store
	network Network
	after   time.Duration // BOOSTER_WITNESS_AFTER
	limit   int64         // bytes that the streams may fill here
	hosts   *placement

	seen time.Time // when the witness was there last, or need not have been
}

func newAppointer(c *cluster, s *store, cfg Config, limit int64, hosts *placement) *appointer {
	return &appointer{cluster: c, store: s, network: cfg.Network, after: cfg.WitnessAfter, limit: limit, hosts: hosts, seen: time.Now()}
}

// wait begins to wait for the witness from now on.
func (a *appointer) wait() { a.seen = time.Now() }

// follow dials the witness that was appointed last, and remembers it for the next start: after a full stop this Booster and the
// witness must find each other without the other Booster.
func (a *appointer) follow(v *view) error {
	if v.grant == nil || v.grant.Address == a.store.bootState().Witness {
		return nil
	}
	if err := a.cluster.node.setRoutes(a.network.routes(v.grant.Address)); err != nil {
		return err
	}
	if err := a.store.change(func(m *bootState) { m.Witness = v.grant.Address }); err != nil {
		return err
	}
	a.cluster.log.Info().Str("witness", v.grant.Name).Str("address", v.grant.Address).Msg("witness known")
	return nil
}

// appoint makes one agent the witness when the cluster has two Boosters and needs a third vote, and replaces it when its host has
// been silent for too long.
func (a *appointer) appoint(ctx context.Context, v *view) error {
	boosters, online := 0, map[string]bool{}
	for _, p := range v.peers {
		online[p.name] = p.online
		if p.name != "" && !isWitness(p.name) {
			boosters++
		}
	}
	if v.grant != nil && online[v.grant.Name] {
		a.wait()
		return nil
	}
	if boosters != 2 || (v.grant != nil && time.Since(a.seen) < a.timeout(v)) {
		return nil // enough votes without one, or it may yet come
	}
	nodes, err := bus.Nodes(ctx, a.cluster.node.js)
	if err != nil {
		return err
	}
	for _, p := range v.peers {
		if p.online && p.name != "" && !isWitness(p.name) && !heard(nodes, bus.ServiceBooster, p.name) {
			return nil // which hosts have a Booster is not known yet
		}
	}
	agent := a.chooseAgent(nodes, v.grant)
	if agent == nil || a.hosts.names.missing() {
		return nil // status says loudly that there is no witness; which host a name is, the next look knows
	}
	grant := bus.WitnessGrant{
		Agent: agent.Name, Name: bus.WitnessPrefix + bus.Token(agent.Name) + "-" + strings.ToLower(rand.Text()[:6]),
		Address: agent.Agent.WitnessAddress, Granted: time.Now().UTC(),
		Boosters: []string{a.network.ownMember(), a.network.otherMember()},
	}
	kv, err := a.cluster.node.js.KeyValue(ctx, bus.BucketControl)
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
	a.wait()
	a.cluster.log.Info().Str("agent", agent.Name).Str("address", grant.Address).Msg("witness appointed")
	return nil
}

// timeout is how long the witness may be silent before another takes its place. One that has yet to start and join gets the time
// for it: otherwise, on a busy host, two agents would take the role from each other for ever, and each turn could leave a dead member with
// a vote.
func (a *appointer) timeout(v *view) time.Duration {
	if slices.ContainsFunc(v.peers, func(p peer) bool { return p.name == v.grant.Name }) {
		return a.after
	}
	return max(a.after, joinTimeout)
}

// chooseAgent picks a living agent for the witness: one that was told to (AGENT_WITNESS=on) before one that may (auto), of equals the one
// whose disk has most room up to what is needed. A witness that dies together with a Booster is worth nothing, so an agent on a Booster's
// host is none, unless it was told to and there is no other: then status says so. Who cannot be the witness, and why, is noted.
func (a *appointer) chooseAgent(nodes []bus.Node, stale *bus.WitnessGrant) *bus.Node {
	h := a.hosts.boosterHosts(nodes)
	var best *bus.Node
	var bestRank [2]int64
	a.hosts.unfit = nil
	for i, n := range nodes {
		if n.Agent == nil || n.Agent.WitnessAddress == "" || n.Agent.Witness == "off" ||
			(stale != nil && n.Name == stale.Agent && time.Since(n.Started) > a.after) {
			continue
		}
		told, booster := n.Agent.Witness == "on", h.booster(n.Agent.WitnessAddress)
		if reason := a.unfitness(n, booster, told); reason != "" {
			a.hosts.unfit = append(a.hosts.unfit, n.Name+" "+reason)
			continue
		}
		rank := [2]int64{0, a.limit}
		if free := n.Agent.WitnessFree; free > 0 {
			rank[1] = min(a.limit, room{used: n.Agent.WitnessBytes, free: free}.bytes())
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
func (a *appointer) unfitness(n bus.Node, booster string, told bool) string {
	host, _, _ := net.SplitHostPort(n.Agent.WitnessAddress)
	ip, other := net.ParseIP(host), net.ParseIP(a.network.HAIP)
	switch {
	case n.Agent.WitnessFree > 0 && n.Agent.WitnessFree < minFree:
		return fmt.Sprintf("has only %d MB free in AGENT_DATA_DIR", n.Agent.WitnessFree/mib)
	case ip.IsLoopback() && !other.IsLoopback() && a.network.HAIP != "localhost":
		return "reaches its Booster at " + host + ", where the other Booster cannot reach a witness (set AGENT_IP)"
	case booster != "" && !told:
		return "runs on the host of Booster " + booster
	}
	return ""
}

// stale finds a member whose place another has taken: an earlier witness, or a Booster that came back with an empty data directory and so
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

// dismiss removes a stale member, once its successor is there: the cluster never has fewer votes than it needs.
func (a *appointer) dismiss(ctx context.Context, v *view) error {
	old := v.stale()
	if old == nil {
		return nil
	}
	if err := a.cluster.removeMember(ctx, *old); err != nil {
		return err
	}
	a.cluster.log.Info().Str("member", cmp.Or(old.name, old.id)).Msg("stale member removed")
	return nil
}
