package broker

import (
	"cmp"
	"context"
	"fmt"
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
	mu       sync.Mutex
	other    bus.Member
	witness  bus.Member
	replicas int       // of WORK, when it was seen last
	lost     time.Time // since when there is no majority; zero: there is one
}

// watchMembers keeps the contacts up to date until ctx ends.
func (b *Broker) watchMembers(ctx context.Context) {
	for ok := true; ok; ok = bus.Sleep(ctx, membersEvery) {
		b.lookAround()
	}
}

// lookAround notes which members answer, and since when there is no majority.
func (b *Broker) lookAround() {
	c := &b.contacts
	routes, err := b.server.Routez(&server.RoutezOptions{})
	if err != nil {
		return // it is stopping
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := bus.Moment{Time: time.Now()}
	c.other.Role, c.other.Address, c.other.There = bus.ServiceBooster, hostPort(b.cfg.HAIP, b.cfg.HAClusterPort), false
	c.witness.Role, c.witness.There = bus.RoleWitness, false
	c.witness.Address = b.store.bootState().Witness
	if v := b.view.Load(); v != nil {
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
		if r.RemoteName != "" && (m != &c.witness || r.RemoteName == cmp.Or(m.Name, r.RemoteName)) { // not a former witness
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

// clusterState is how this Booster sees its cluster now.
func (b *Broker) clusterState() bus.ClusterState {
	s := bus.ClusterState{Node: b.describe(), Majority: true, Members: []bus.Member{}}
	s.At = time.Now()
	if b.cfg.mode() == modeStandalone {
		return s
	}
	b.lookAround()
	c := &b.contacts
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Majority, s.Lost.Time = c.lost.IsZero(), c.lost
	s.Members = append(s.Members, c.other)
	if c.witness.Address != "" {
		s.Members = append(s.Members, c.witness)
	}
	return s
}

// answerCluster makes ready to answer bus.SubjectCluster, before there are streams and when nothing else can be answered.
// answer does it until ctx ends.
func (b *Broker) answerCluster() (answer func(ctx context.Context), err error) {
	sub, err := b.nc.SubscribeSync(bus.SubjectCluster)
	if err == nil {
		err = b.nc.Flush()
	}
	if err != nil {
		return nil, fmt.Errorf("answer %s: %w", bus.SubjectCluster, err)
	}
	return func(ctx context.Context) {
		defer func() { _ = sub.Unsubscribe() }()
		for {
			m, err := sub.NextMsgWithContext(ctx)
			switch {
			case err == nil:
				_ = m.Respond(encode(b.clusterState()))
			case ctx.Err() != nil, !sub.IsValid():
				return
			}
		}
	}, nil
}
