package agent

import (
	"context"
	"errors"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// resumer brings a patch that was interrupted to its end.
type resumer struct {
	journal   *patch.Journal
	installer *installer
	host      starter
	vacancy   vacancyFinder
	drift     interface {
		begin(ctx context.Context) error // takes the home as it is for its baseline, if it has none
	}
	status *status
	log    zerolog.Logger
}

// starter starts server and worker, and returns an error if the server is not healthy in time.
type starter interface {
	start(ctx context.Context) error
}

func newResumer(r resumer) (*resumer, error) { return complete(&r) }

// resume starts the host for the first time. Before that, a patch that an earlier life of the agent has left under way is brought to
// its end, for which no Booster is needed. If that fails, every round tries it again.
func (r *resumer) resume(ctx context.Context) {
	if r.vacancy.find(ctx) {
		return // there is no server to start
	}
	if r.journal.Phase() == patch.Idle {
		if err := r.host.start(ctx); err != nil && ctx.Err() == nil {
			r.log.Error().Err(err).Msg("server not healthy; going on")
		}
		if err := r.drift.begin(ctx); err != nil && ctx.Err() == nil {
			r.log.Error().Err(err).Msg("home not read; trying again")
		}
		return
	}
	log := r.log.With().Str(logging.Patch, r.journal.Report().Patch).Logger()
	log.Warn().Str("phase", string(r.journal.Phase())).Msg("a patch was interrupted")
	if err := r.recover(ctx); err != nil && ctx.Err() == nil {
		r.status.set(stateFailed + err.Error())
		log.Error().Err(err).Msg("interrupted patch not brought to its end; trying again")
	}
}

// interrupted is the patch for which an earlier life had its turn, and has it still.
func interrupted(j *patch.Journal) string {
	if j.Content().Whole { // nobody gives turns for that
		return ""
	}
	return j.Report().Patch
}

// recover brings a patch that is under way to its end, and the host to work: one that is not completely in place is rolled back,
// one that is has to prove itself. Without a patch under way it does nothing.
func (r *resumer) recover(ctx context.Context) error {
	switch phase := r.journal.Phase(); {
	case phase == patch.Idle:
		return nil
	case phase == patch.Switched:
		r.status.set(stateApplying)
		return r.installer.activate(ctx)
	case phase != patch.Committed && r.journal.Content().Whole:
		return r.installer.rollBackWhole(ctx)
	case phase == patch.Switching, phase == patch.Restoring:
		return r.installer.rollBack(ctx, "")
	default: // the home is in one version: the server need not wait for what is left to do
		_ = r.host.start(ctx) // the log of the child says why it is not healthy
		err := error(nil)
		if r.journal.Phase() == patch.Staging {
			err = r.journal.Restore("")
		}
		if err == nil {
			err = r.installer.finish()
		}
		if err != nil {
			return errors.Join(errors.New("clean up after a patch"), err)
		}
		return nil
	}
}
