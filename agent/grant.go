package agent

import (
	"context"
	"fmt"

	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// grants waits until the active Booster lets this server go on with a patch, for the night perhaps, or until somebody approves it.
type grants struct {
	turns   turns
	status  *status
	donor   bystander
	repairs postponer
}

// What waits with a patch, and what goes on meanwhile.
type (
	bystander interface {
		serve(ctx context.Context) // does what other servers wait for
		withdraw()                 // ends that
	}
	postponer interface {
		postpone(why string) // tells who has given an order why nothing happens
	}
)

func newGrants(g grants) (*grants, error) { return complete(&g) }

// toFetch waits until the node may fetch a large artifact. All of a fleet would fetch it at once otherwise; the Booster lets the nodes
// whose turn is near. The node says that it wants the artifact until it has it (setNext), or the try is over: the Booster counts how
// many fetch it.
func (g *grants) toFetch(ctx context.Context, a patch.Announcement) error {
	g.status.setWants(a.ID)
	err := g.turns.of(a.ID).WaitToFetch(ctx, g.meanwhile(ctx, a))
	g.status.set(stateApplying)
	return err
}

// toApply waits for the node's turn.
func (g *grants) toApply(ctx context.Context, a patch.Announcement) error {
	g.status.setNext(a.ID)
	err := g.turns.of(a.ID).Wait(ctx, g.meanwhile(ctx, a))
	g.donor.withdraw()
	if err != nil {
		return err
	}
	g.status.set(stateApplying)
	return nil
}

// meanwhile is what there is to do while this node waits; why says for what.
func (g *grants) meanwhile(ctx context.Context, a patch.Announcement) func(why string) {
	return func(why string) {
		g.status.set(stateWaiting + why)
		g.repairs.postpone(fmt.Sprintf("patch %s comes first, which waits for %s; the files are brought back after that", a.ID, why))
		g.donor.serve(ctx)
	}
}
