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
)

// repairer takes the order of an operator to make this server like the others again.
type repairer struct {
	wake chan<- struct{}

	mu     sync.Mutex
	wanted bool
	busy   bool   // there is an order that is not carried out yet
	result string // of the last one; empty while it goes well
}

// addTo answers to the order. Who gave it sees by agent.drift how it goes.
func (p *repairer) addTo(group micro.Group, node string) error {
	return group.AddEndpoint(bus.EndpointRepair, micro.HandlerFunc(func(r micro.Request) {
		p.mu.Lock()
		p.wanted, p.busy, p.result = true, true, ""
		p.mu.Unlock()
		wake(p.wake)
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
	p.busy = p.wanted
	if err != nil {
		p.result = err.Error()
	}
}

func (p *repairer) describe(d *bus.Drift) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d.Repair, d.Repairing = p.result, p.busy
}

// tellDrift is what others are told of changes, and of how it goes with an order to take them back.
func (f *follower) tellDrift() bus.Drift {
	d := f.drift.tell(f.node)
	d.Seq = f.ledger.read().Seq
	f.mender.describe(&d)
	return d
}

// repair makes this server like the others: every file that was changed here is as it should be again. Their content comes from a server whose baseline is
// the same. Where nothing was changed here, or no such server is there, it is what most of the others have that are on the same patches.
func (f *follower) repair(ctx context.Context) error {
	f.drift.dirty, f.drift.took = true, 0 // now, whatever it costs
	if _, _, err := f.drift.look(ctx); err != nil {
		return err
	}
	offer, err := f.example(ctx, len(f.drift.changed()) > 0)
	if err != nil || offer.Node == "" {
		return err
	}
	a, _, err := f.gift(ctx, offer, bus.HomeRequest{})
	if err != nil {
		return fmt.Errorf("files of %s: %w", offer.Node, err)
	}
	if err := f.fetch(ctx, a); err != nil {
		return err
	}
	m, _, err := f.verify(a, true)
	if err != nil {
		return err
	}
	more, err := f.notIn(ctx, m)
	if err != nil {
		return err
	}
	a.Seq = f.ledger.read().Seq
	f.log.Warn().Str("from", offer.Node).Int("more", len(more)).Msg("making this server like another one, by order of an operator; stopping worker and server")
	if err := f.stage(a, time.Now(), more, []string{patch.SettingsFile}); err != nil {
		return err
	}
	if err := f.host.stop(); err != nil {
		return errors.Join(err, f.unprovision(ctx))
	}
	if err := f.journal.Switch(); err != nil {
		return errors.Join(err, f.unprovision(ctx))
	}
	_ = os.Remove(f.dir.artifact(a.ID))
	return f.prove(ctx)
}

// example is the server that this one is to be like. It has no name if this one is right already.
func (f *follower) example(ctx context.Context, changed bool) (example bus.HomeOffer, err error) {
	baseline, seq := f.drift.baselineDigest(), f.ledger.read().Seq
	votes, offers := map[string]int{baseline: 1}, map[string]bus.HomeOffer{}
	_, err = f.bestOffer(ctx, func(o bus.HomeOffer) bool {
		if o.Node == f.node || o.Seq != seq && o.Baseline != baseline {
			return false
		}
		votes[o.Baseline]++
		offers[o.Baseline] = o
		return true
	})
	if err != nil && !errors.Is(err, errNoHome) {
		return example, err
	}
	if same, ok := offers[baseline]; ok && changed {
		return same, nil
	}
	most, alone := baseline, true
	for digest := range offers {
		switch n := votes[digest]; {
		case digest == baseline, n < votes[most]:
		case n == votes[most] && most != baseline:
			alone = false
		default: // that of this server yields to an equal number of others: the operator has said that it is wrong
			most, alone = digest, true
		}
	}
	switch {
	case !alone:
		return example, errors.New("the other servers differ among themselves: bring one version to all with `omflow-booster patch publish --exact`")
	case most == baseline && changed:
		return example, errors.New("no other server has these files as they should be: one has to run that is on the same patches, has no drift, and whose join file signs")
	case most == baseline:
		return example, nil
	}
	return offers[most], nil
}

// notIn are the files of this home that an artifact of a whole home does not have.
func (f *follower) notIn(ctx context.Context, m patch.Manifest) (more []string, err error) {
	now, err := f.drift.scanner.Scan(ctx, 0)
	if err != nil {
		return nil, err
	}
	for _, file := range m.Files {
		delete(now.Files, file.Path)
	}
	return now.Files.Names(), nil
}
