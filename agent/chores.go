package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/tree"
)

// chores are what there is to do when every patch is dealt with.
type chores struct {
	trust    *trust
	inbox    chore
	repairer orderTaker
	drift    looker
	outgoing driftPublisher
	donor    bystander
}

// What the chores need of others.
type (
	orderTaker interface {
		carryOut(ctx context.Context) error // does what an operator has ordered
	}
	looker interface {
		maySign(may bool)
		look(ctx context.Context) (changes []tree.Change, again time.Duration, err error)
	}
	driftPublisher interface {
		publishDrift(ctx context.Context, changes []tree.Change) error
	}
)

func newChores(c chores) (*chores, error) { return complete(&c) }

// run does them. An inbox that cannot be read, or a change that cannot be published, keeps nothing else waiting. again says when the
// home is to be read again; 0: not before something happens.
func (c *chores) run(ctx context.Context) (again time.Duration, err error) {
	impossible := c.trust.possible()
	var inbox error
	if impossible == nil {
		again, inbox = c.inbox.run(ctx)
	}
	if err := c.repairer.carryOut(ctx); err != nil { // and the home may be between two states, until the next round has dealt with that
		return again, errors.Join(inbox, fmt.Errorf("repair: %w", err))
	}
	soon, drift := c.lookForDrift(ctx)
	c.donor.serve(ctx)
	return sooner(again, soon), errors.Join(inbox, drift, impossible)
}

func (c *chores) lookForDrift(ctx context.Context) (again time.Duration, err error) {
	_, unsigned := c.trust.signer()
	c.drift.maySign(unsigned == nil)
	changes, again, err := c.drift.look(ctx)
	if err != nil {
		return 0, err
	}
	if len(changes) == 0 {
		return again, nil
	}
	return again, c.outgoing.publishDrift(ctx, changes)
}
