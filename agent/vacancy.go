package agent

import (
	"context"

	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/tree"
)

// vacancy tells whether this host has no OMFLOW Server yet, but is to have one.
type vacancy struct {
	cfg      *Config
	home     *homeDir
	journal  *patch.Journal
	ledger   *ledger
	baseline *baseline
	status   *status
}

func newVacancy(v vacancy) (*vacancy, error) { return complete(&v) }

// find looks, tells it, and has the heartbeat say so.
func (v *vacancy) find(ctx context.Context) bool {
	bare := v.isNew(ctx)
	v.status.setBare(bare)
	return bare
}

// isNew tells whether the home is empty and never was anything else. An agent without OMFLOW_COMMAND runs no server, whatever its home has.
func (v *vacancy) isNew(ctx context.Context) bool {
	if v.cfg.Provision == "off" || len(v.cfg.command) == 0 || v.journal.Phase() != patch.Idle {
		return false
	}
	if len(v.ledger.read().Entries) > 0 || v.baseline.files() != nil {
		return false
	}
	found, err := tree.NewScanner(v.home.Root, v.cfg.ignore).Scan(ctx, 0)
	return err == nil && len(found.Files)+len(found.Stays) == 0
}
