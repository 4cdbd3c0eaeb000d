package agent

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// resume completes a patch that an earlier life of the agent has left between two versions. It is called before the server is
// started and needs no Booster: the artifact is still in the data directory. If it cannot be used, the patch stays pending and
// the follower fetches it again.
func (f *follower) resume(ctx context.Context) {
	pause, pending := f.cfg.PatchRetry, f.ledger.read().Pending
	if pending == nil {
		return
	}
	log := f.log.With().Str(logging.Patch, pending.ID).Logger()
	for ctx.Err() == nil {
		done, err := f.applyStaged(pending.ID)
		if err == nil {
			err = f.settle(f.applied(*pending, done))
		}
		if err == nil {
			return
		}
		f.setState("failed: " + err.Error())
		log.Error().Err(err).Msg("interrupted patch not completed; the server stays stopped")
		if errors.Is(err, patch.ErrInvalid) || errors.Is(err, fs.ErrNotExist) {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, retryMax)
	}
}

func (f *follower) applyStaged(patchID string) (patch.Result, error) {
	artifact, err := os.Open(f.dir.artifact(patchID))
	if err != nil {
		return patch.Result{}, err
	}
	defer func() { _ = artifact.Close() }()
	return patch.Apply(f.home, artifact, patch.DefaultLimit)
}
