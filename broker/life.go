package broker

import (
	"github.com/omflow-booster/omflow-booster/broker/audit"
)

// life is a Booster from one start of its NATS server to the next stop: the server, and the parts that work with it.
type life struct {
	node    *node
	cluster *cluster
	lease   *activeLease
	keeper  *keeper
	member  *membership // nil on a single Booster
	report  *reporter
}

func (b *Broker) budget() budget { return budget{b.limit, b.cfg.Lease} }

// newLife puts the parts together. None of them does anything yet.
func (b *Broker) newLife(n *node) (*life, error) {
	c := newCluster(b.store.bootState().Name, b.cfg.mode(), n, b.log)
	l := &life{node: n, cluster: c, lease: newActiveLease(c)}
	hosts := newPlacement(c, b.cfg.Network)
	l.keeper = newKeeper(c, b.budget(), newSurroundings(c, b.store, b.limit, hosts))
	if !c.single {
		var err error
		if l.member, err = b.newMembership(l, hosts); err != nil {
			return nil, err
		}
	}
	l.report = &reporter{
		cfg: b.cfg, started: b.started, store: b.store, limit: b.limit,
		cluster: c, lease: l.lease, keeper: l.keeper, member: l.member,
	}
	return l, nil
}

func (b *Broker) newMembership(l *life, hosts *placement) (*membership, error) {
	c := l.cluster
	found := newFounding(c, b.budget(), b.move.growing.Load, b.ready)
	control := newController(c, found, newGrowth(c, found, b.move), l.keeper, newAppointer(c, b.store, b.cfg, b.limit, hosts))
	auditor, err := audit.New(audit.Config{Name: c.name, Every: b.cfg.AuditEvery, Log: b.log}, audited{l.lease, control})
	if err != nil {
		return nil, err
	}
	return &membership{
		cluster: c, lease: l.lease, control: control, audit: auditor,
		contacts: newContacts(c, b.cfg.Network, b.store, control.view.Load), departure: newDeparture(c, b.store, b.leaving),
	}, nil
}
