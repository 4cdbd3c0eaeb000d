package broker

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// membersEvery is how often a Booster looks whom it is connected to.
const membersEvery = 500 * time.Millisecond

// contacts is whom a Booster is connected to, by the routes of its server. A member that dies is known by them within seconds,
// whatever Raft still believes: a leader that has lost its followers goes on leading for up to 20 s.
type contacts struct {
	cluster *cluster
	network Network
	store   *store
	view    func() *view // what the topology controller saw last

	mu       sync.Mutex
	other    bus.Member
	witness  bus.Member
	replicas int       // of WORK, when it was seen last
	lost     time.Time // since when there is no majority; zero: there is one
}

func newContacts(c *cluster, network Network, s *store, view func() *view) *contacts {
	return &contacts{cluster: c, network: network, store: s, view: view}
}

// run keeps the contacts up to date until ctx ends.
func (c *contacts) run(ctx context.Context) {
	for ok := true; ok; ok = bus.Sleep(ctx, membersEvery) {
		c.lookAround()
	}
}

// lookAround notes which members answer, and since when there is no majority.
func (c *contacts) lookAround() {
	routes, err := c.cluster.node.server.Routez(&server.RoutezOptions{})
	if err != nil {
		return // it is stopping
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := bus.Moment{Time: time.Now()}
	c.other.Role, c.other.Address, c.other.There = bus.ServiceBooster, c.network.otherMember(), false
	c.witness.Role, c.witness.There = bus.RoleWitness, false
	c.witness.Address = c.store.bootState().Witness
	if v := c.view(); v != nil {
		if v.grant != nil {
			c.witness.Name, c.witness.Address = v.grant.Name, v.grant.Address
		}
		if work, ok := v.streams[bus.StreamWork]; ok {
			c.replicas = work.config.Replicas
		}
	}
	for _, r := range routes.Routes {
		m := &c.other
		if isWitness(r.RemoteName) {
			m = &c.witness
		}
		if r.RemoteName != "" && (m != &c.witness || r.RemoteName == cmp.Or(m.Name, r.RemoteName)) { // not a stale witness
			m.Name, m.There, m.Seen = r.RemoteName, true, now
		}
	}
	if c.replicas == 0 && c.witness.Address != "" {
		c.replicas = maxReplicas
	}
	switch majority := c.other.There || c.witness.There && c.replicas == maxReplicas; {
	case majority:
		c.lost = time.Time{}
	case c.lost.IsZero():
		c.lost = time.Now()
	}
}

// state is how this Booster sees its cluster now.
func (c *contacts) state() (members []bus.Member, majority bool, lost time.Time) {
	c.lookAround()
	c.mu.Lock()
	defer c.mu.Unlock()
	members = append(members, c.other)
	if c.witness.Address != "" {
		members = append(members, c.witness)
	}
	return members, c.lost.IsZero(), c.lost
}
