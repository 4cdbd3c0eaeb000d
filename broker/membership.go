package broker

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/omflow-booster/omflow-booster/broker/audit"
	"github.com/omflow-booster/omflow-booster/internal/bus"
)

const comparedWithin = 5 * time.Second

// membership is what a Booster does as one of two.
type membership struct {
	cluster   *cluster
	lease     *activeLease
	control   *controller
	contacts  *contacts
	audit     *audit.Auditor
	departure *departure
}

// run starts all of it. stop ends it, and hands over first what this Booster leads.
func (m *membership) run(ctx context.Context, parts *sync.WaitGroup) (stop func(), err error) {
	parts.Go(func() { m.contacts.run(ctx) })
	stopAnswering, err := m.control.founding.answer()
	if err != nil {
		return nil, err
	}
	stopControl := m.startControl(ctx)
	parts.Go(func() { m.lease.run(ctx) })
	parts.Go(func() { m.audit.Run(ctx) })
	return func() {
		defer stopAnswering()
		if !m.departure.left() {
			m.awaitAudit()
		}
		stopControl() // it would take leadership back
		if m.departure.left() || !m.cluster.leads() {
			return
		}
		if _, err := m.control.handOver(context.Background()); err != nil {
			m.cluster.log.Warn().Err(err).Msg("stopping without handing over")
		}
	}, nil
}

// startControl runs the topology controller until stop is called.
func (m *membership) startControl(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		m.control.run(ctx)
	}()
	return func() {
		cancel()
		<-over
	}
}

// stepDown answers `omflow-booster cluster step-down`.
func (m *membership) stepDown(req micro.Request) {
	m.awaitAudit()
	successor, err := m.control.handOver(context.Background())
	if err != nil {
		_ = req.Error("500", bus.HeaderText(err.Error()), nil)
		return
	}
	m.cluster.log.Info().Str("active", successor).Msg("stepped down by order of an operator")
	respond(req, bus.SteppedDown{Active: successor})
}

// awaitAudit gives the audit a moment before a planned stop: this Booster hands over nothing to one that has just started and is
// not compared yet.
func (m *membership) awaitAudit() {
	ctx, cancel := context.WithTimeout(context.Background(), comparedWithin)
	defer cancel()
	for m.cluster.leads() && ctx.Err() == nil {
		if v := m.audit.Verdict(); v == nil || !v.Soon {
			return
		}
		bus.Sleep(ctx, 50*time.Millisecond)
	}
}

// takeover says whether the other Booster could take over now.
func (m *membership) takeover() string {
	v, said := m.control.view.Load(), m.audit.Verdict() // others replace them
	switch {
	case v == nil:
		return "not known yet"
	case v.metaLeader == "":
		return "no majority of Boosters and witness"
	case !m.cluster.leads():
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
		for _, p := range s.members {
			switch {
			case p.Offline:
				return "no automatic takeover: " + p.Name + " does not answer"
			case !p.Current:
				return fmt.Sprintf("no automatic takeover yet: %s copies %s", p.Name, name)
			}
		}
	}
	return said.Takeover()
}
