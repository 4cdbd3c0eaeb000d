package broker

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/broker/audit"
	"github.com/omflow-booster/omflow-booster/internal/bus"
)

const comparedWithin = 5 * time.Second

// audited is a Booster as its audit sees it (audit.Booster).
type audited struct{ b *Broker }

func (a audited) Active() bool { return a.b.active() }

func (a audited) HandOver(ctx context.Context) error {
	_, err := a.b.handOver(ctx)
	return err
}

func (a audited) Request(ctx context.Context, subject string, question []byte) ([]byte, error) {
	reply, err := a.b.sys.RequestWithContext(ctx, subject, question)
	if err != nil {
		return nil, err
	}
	return reply.Data, nil
}

func (a audited) Cluster() *audit.Cluster {
	v := a.b.view.Load()
	if v == nil {
		return nil
	}
	c := &audit.Cluster{Leader: v.metaLeader, Growing: a.b.growing.Load(), Streams: map[string]audit.Stream{}}
	for _, p := range v.peers {
		c.Members = append(c.Members, audit.Member{Name: p.name, Online: p.online})
	}
	for name, s := range v.streams {
		held := audit.Stream{Leader: s.leader}
		for _, m := range s.members {
			held.Followers = append(held.Followers, audit.Follower{Name: m.Name, Current: s.isCurrent(m.Name)})
		}
		c.Streams[name] = held
	}
	return c
}

// newAudit makes the audit of this Booster.
func (b *Broker) newAudit() (*audit.Auditor, error) {
	return audit.New(audit.Config{Name: b.name(), Every: b.cfg.AuditEvery, Log: b.log}, audited{b})
}

// answerAudit answers the audit of the active Booster until the node is stopped. It calls end with an audit.Rebuild when the
// member must start again.
func answerAudit(n *node, s *store, log zerolog.Logger, end context.CancelCauseFunc) error {
	r, err := audit.NewReplica(n.server, s, log)
	if err != nil {
		return err
	}
	return r.Answer(n.sys, end)
}

// awaitAudit gives the audit a moment before a planned stop: this Booster hands over nothing to one that has just started and is
// not compared yet.
func (b *Broker) awaitAudit() {
	ctx, cancel := context.WithTimeout(context.Background(), comparedWithin)
	defer cancel()
	for b.leads() && ctx.Err() == nil {
		if v := b.audit.Verdict(); v == nil || !v.Soon {
			return
		}
		bus.Sleep(ctx, 50*time.Millisecond)
	}
}
