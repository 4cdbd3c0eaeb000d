package broker

import (
	"context"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/broker/audit"
)

// audited is a Booster as its audit sees it (audit.Booster).
type audited struct {
	lease   *activeLease
	control *controller
}

func (a audited) Active() bool { return a.lease.active() }

func (a audited) HandOver(ctx context.Context) error {
	_, err := a.control.handOver(ctx)
	return err
}

func (a audited) Request(ctx context.Context, subject string, question []byte) ([]byte, error) {
	reply, err := a.control.cluster.node.sys.RequestWithContext(ctx, subject, question)
	if err != nil {
		return nil, err
	}
	return reply.Data, nil
}

func (a audited) Cluster() *audit.Cluster {
	v := a.control.view.Load()
	if v == nil {
		return nil
	}
	c := &audit.Cluster{Leader: v.metaLeader, Growing: a.control.growth.open(), Streams: map[string]audit.Stream{}}
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

// answerAudit answers the audit of the active Booster until the node is stopped. It calls end with an audit.Rebuild when the
// member must start again.
func answerAudit(n *node, s *store, log zerolog.Logger, end context.CancelCauseFunc) error {
	r, err := audit.NewReplica(n.server, s, log)
	if err != nil {
		return err
	}
	return r.Answer(n.sys, end)
}
