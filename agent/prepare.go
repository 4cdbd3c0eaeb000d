package agent

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// preparation is what comes before the patches in each round: it makes sure that this server may take some, and where it stands.
type preparation struct {
	js      jetstream.JetStream
	home    *homeDir
	donor   bystander
	trust   *trust
	status  *status
	resumer interface {
		recover(ctx context.Context) error // brings a patch that is under way to its end
	}
	aligner interface {
		align(ctx context.Context, stream jetstream.Stream) error // finds the ledger's place in PATCH
	}
	provisioner interface {
		provision(ctx context.Context) error // fills an empty home
	}
}

func newPreparation(p preparation) (*preparation, error) { return complete(&p) }

// prepare returns PATCH when all of that is done.
func (p *preparation) prepare(ctx context.Context) (jetstream.Stream, error) {
	if err := p.resumer.recover(ctx); err != nil {
		return nil, err
	}
	if err := p.home.same(); err != nil {
		p.donor.withdraw() // nothing of it is for others
		return nil, err
	}
	stream, err := p.js.Stream(ctx, bus.StreamPatch)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", bus.StreamPatch, err)
	}
	if err := p.trust.learn(ctx, p.js); err != nil {
		return nil, err
	}
	if err := p.aligner.align(ctx, stream); err != nil {
		return nil, err
	}
	if p.status.isBare() {
		if err := p.provisioner.provision(ctx); err != nil {
			return nil, err
		}
	}
	return stream, nil
}
