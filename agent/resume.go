package agent

import (
	"context"
	"errors"

	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// resume starts the host for the first time. Before that, a patch that an earlier life of the agent has left under way is brought to
// its end, for which no Booster is needed. If that fails, every round tries it again.
func (f *follower) resume(ctx context.Context) {
	if f.setBare(f.isNew(ctx)); f.isBare() {
		return // there is no server to start
	}
	if f.journal.Phase() == patch.Idle {
		if err := f.host.start(ctx); err != nil && ctx.Err() == nil {
			f.log.Error().Err(err).Msg("server not healthy; going on")
		}
		if err := f.drift.begin(ctx); err != nil && ctx.Err() == nil {
			f.log.Error().Err(err).Msg("home not read; trying again")
		}
		return
	}
	log := f.log.With().Str(logging.Patch, f.journal.Report().Patch).Logger()
	log.Warn().Str("phase", string(f.journal.Phase())).Msg("a patch was interrupted")
	if err := f.recover(ctx); err != nil && ctx.Err() == nil {
		f.setState("failed: " + err.Error())
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

// recover brings a patch that is under way to its end, and the host to work: one that is not completely in place is taken back,
// one that is has to prove itself. Without a patch under way it does nothing.
func (f *follower) recover(ctx context.Context) error {
	switch phase := f.journal.Phase(); {
	case phase == patch.Idle:
		return nil
	case phase == patch.Switched:
		f.setState("applying")
		return f.prove(ctx)
	case phase != patch.Proven && f.journal.Content().Whole:
		return f.unprovision(ctx)
	case phase == patch.Switching, phase == patch.Restoring:
		return f.takeBack(ctx, "")
	default: // the home is in one version: the server need not wait for what is left to do
		_ = f.host.start(ctx) // the log of the child says why it is not healthy
		err := error(nil)
		if f.journal.Phase() == patch.Staging {
			err = f.journal.Restore("")
		}
		if err == nil {
			err = f.finish()
		}
		if err != nil {
			return errors.Join(errors.New("clean up after a patch"), err)
		}
		return nil
	}
}
