package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/tree"
)

// repairer takes the order of an operator to make this server like the others again.
type repairer struct {
	wake chan<- struct{}

	mu     sync.Mutex
	wanted bool
	result string // of the last one; empty while it goes well
}

// addTo answers to the order. Who gave it sees by agent.drift how it goes.
func (p *repairer) addTo(group micro.Group, node string) error {
	return group.AddEndpoint(bus.EndpointRepair, micro.HandlerFunc(func(r micro.Request) {
		p.mu.Lock()
		p.wanted, p.result = true, ""
		p.mu.Unlock()
		select {
		case p.wake <- struct{}{}:
		default:
		}
		_ = r.Respond(nil)
	}), micro.WithEndpointSubject(bus.EndpointRepair+"."+bus.Token(node)), micro.WithEndpointQueueGroupDisabled())
}

// take tells whether there is an order, which is carried out then.
func (p *repairer) take() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	wanted := p.wanted
	if wanted {
		p.wanted, p.result = false, ""
	}
	return wanted
}

// postpone tells who has given an order, that is not taken yet, why nothing happens.
func (p *repairer) postpone(why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wanted {
		p.result = why
	}
}

func (p *repairer) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.result = err.Error()
	}
}

func (p *repairer) failure() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.result
}

// repair brings back every file that was changed here. Their content comes from another server that should be the same as this one.
func (f *follower) repair(ctx context.Context) error {
	f.drift.dirty, f.drift.took = true, 0 // now, whatever it costs
	if _, _, err := f.drift.look(ctx); err != nil {
		return err
	}
	changes := f.drift.changed()
	if len(changes) == 0 {
		return nil
	}
	baseline := f.drift.baselineDigest()
	offer, err := f.bestOffer(ctx, func(o bus.HomeOffer) bool { return o.Node != f.node && o.Baseline == baseline })
	if errors.Is(err, errNoHome) {
		return errors.New("no other server has these files as they should be: one has to run that is on the same patches, has no drift, and whose join file signs")
	}
	if err != nil {
		return err
	}
	a, _, err := f.gift(ctx, offer, bus.HomeRequest{})
	if err != nil {
		return fmt.Errorf("files of %s: %w", offer.Node, err)
	}
	if err := f.fetch(ctx, a); err != nil {
		return err
	}
	if _, _, err := f.verify(a, true); err != nil {
		return err
	}
	a.Seq = f.ledger.read().Seq
	f.log.Warn().Int("files", len(changes)).Str("from", offer.Node).Msg("bringing back files that were changed here, by order of an operator; stopping worker and server")
	if err := f.stage(a, time.Now(), []string{patch.SettingsFile}); err != nil {
		return err
	}
	if err := f.host.stop(); err != nil {
		return errors.Join(err, f.unprovision(ctx))
	}
	if err := f.journal.Switch(); err != nil {
		return errors.Join(err, f.unprovision(ctx))
	}
	_ = os.Remove(f.dir.artifact(a.ID))
	err = nil
	for _, c := range changes {
		if c.Kind == tree.Added {
			err = errors.Join(err, f.home.Remove(c.Path))
		}
	}
	return errors.Join(f.prove(ctx), err)
}
