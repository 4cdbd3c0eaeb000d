package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

const (
	missingMax    = 5 // attempts that found no artifact in the store, until a person is asked
	rolledBackMax = 3 // attempts that stopped the server and were rolled back: each costs an outage
)

// errGone keeps a node waiting for an artifact that somebody has removed: the patch is as good as ever, and other nodes have it.
var errGone = errors.New("its artifact is not in the store any more")

// judge decides what becomes of one announcement: applied, rolled back, failed or skipped, or to be tried again.
type judge struct {
	home     *homeDir
	ledger   *ledger
	trust    *trust
	turns    turns
	status   *status
	applier  patchApplier
	reports  patchReporter
	attempts attempts
}

// What the judge needs of others.
type (
	patchApplier interface {
		apply(ctx context.Context, a patch.Announcement) error
	}
	patchReporter interface {
		settler
		mentioner
		begin(a patch.Announcement, state, reason string) patch.Report // makes a report of the home as it is now
	}
)

// attempts counts those of one patch, in a row.
type attempts struct {
	patch      string
	missing    int // found no artifact
	rolledBack int // were rolled back
}

func newJudge(j judge) (*judge, error) { return complete(&j) }

// deal brings one announcement to its end. An error means that it is to be tried again.
func (j *judge) deal(ctx context.Context, a patch.Announcement) error {
	version := j.home.version()
	switch fits, err := a.FitsHome(version); {
	case err != nil:
		return j.refuse(a, err)
	case !fits:
		return j.skip(a, fmt.Sprintf("it leads to version %s and this server has %s", a.To, version))
	case j.ledger.read().without(a.Reverts):
		return j.skip(a, "it takes back a patch that this server does not have")
	}
	if err := j.trust.possible(); err != nil {
		return err
	}
	j.status.set(stateApplying)
	err := j.applier.apply(ctx, a)
	if err == nil {
		return nil
	}
	settled, err := j.end(ctx, a, err)
	if settled {
		return err
	}
	if ctx.Err() == nil {
		j.reports.mention(a, patch.StateRetrying, err.Error())
	}
	return fmt.Errorf("patch %s: %w", a.ID, err)
}

// end settles a patch that could not be applied, unless it is to be tried again: then it returns the reason.
func (j *judge) end(ctx context.Context, a patch.Announcement, cause error) (settled bool, err error) {
	if j.attempts.patch != a.ID {
		j.attempts = attempts{patch: a.ID}
	}
	switch {
	case errors.Is(cause, patch.ErrMissing), errors.Is(cause, bus.ErrNewer):
		if aborted := j.turns.of(a.ID).Aborted(ctx); errors.Is(aborted, rollout.ErrAborted) {
			return true, j.skip(a, aborted.Error())
		}
		if errors.Is(cause, bus.ErrNewer) {
			break
		}
		if j.attempts.missing++; j.attempts.missing >= missingMax {
			return false, fmt.Errorf("%w; publish the same file again, or pass the patch over: omflow-booster patch abort %s", errGone, a.ID)
		}
	case errors.Is(cause, patch.ErrInvalid):
		return true, j.refuse(a, cause)
	case errors.Is(cause, rollout.ErrAborted):
		return true, j.skip(a, cause.Error())
	case errors.Is(cause, errRolledBack):
		if j.attempts.rolledBack++; j.attempts.rolledBack >= rolledBackMax {
			return true, j.giveUp(a, cause)
		}
	}
	return false, cause
}

// refuse settles a patch that can never be applied here; the ones after it get their turn.
func (j *judge) refuse(a patch.Announcement, cause error) error {
	return j.reports.settle(j.reports.begin(a, patch.StateFailed, cause.Error()))
}

// giveUp settles a patch that was begun and rolled back too often: every attempt takes the server away from its users.
func (j *judge) giveUp(a patch.Announcement, cause error) error {
	reason := fmt.Sprintf("%d tries failed, the last one with: %s", rolledBackMax, cause)
	return j.reports.settle(j.reports.begin(a, patch.StateRolledBack, reason))
}

// skip settles a patch that has nothing to bring here.
func (j *judge) skip(a patch.Announcement, reason string) error {
	return j.reports.settle(j.reports.begin(a, patch.StateSkipped, reason))
}
