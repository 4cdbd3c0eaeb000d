package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// prove runs the hooks of a patch and starts the server on a home that was switched. If it becomes healthy the patch stays and the worker starts, too; else the
// old version comes back, and no step has run with the new one. If ctx ends before either, the next start of the agent proves it.
func (f *follower) prove(ctx context.Context) error {
	if f.journal.Content().Whole { // there is nothing to go back to
		err := f.journal.Prove()
		if err == nil {
			err = f.finish()
		}
		if err == nil {
			_ = f.host.start(ctx) // the log of the child says why it is not healthy
		}
		return err
	}
	if err := f.runHooks(ctx); err != nil && ctx.Err() == nil {
		f.log.Error().Err(err).Msg("patch not put to work; restoring the old version")
		return f.takeBack(ctx, err.Error())
	}
	unhealthy := f.proof(ctx, f.journal.Hooks())
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case unhealthy != nil:
		f.log.Error().Err(unhealthy).Msg("server not healthy with the patch; restoring the old version")
		return f.takeBack(ctx, unhealthy.Error())
	}
	f.host.startWorker()
	if err := f.journal.Prove(); err != nil {
		return err
	}
	return f.finish()
}

// takeBack restores the old version and starts the host with it. With a reason the patch is settled as rolled back, without one
// it is to be tried again. If the old version cannot be restored now, nothing is started unless the home is in one version: half a
// patch can do worse to tickets than one server less. The next round tries again.
func (f *follower) takeBack(ctx context.Context, reason string) error {
	hooks := f.journal.Hooks()
	if reason != "" {
		hooks.Restart = patch.RestartServer // it may have loaded anything
	}
	if f.journal.Phase() != patch.Staging { // what only lies beside the files disturbs nobody
		if err := f.makeWay(hooks); err != nil {
			return err
		}
	}
	err := f.journal.Restore(reason)
	if !f.journal.Phase().Whole() {
		return errors.Join(fmt.Errorf("the server stays stopped until its old version is restored: %w", err), f.host.stop())
	}
	r := f.journal.Report()
	if err == nil {
		err = f.finish()
	}
	unhealthy := f.host.start(ctx)
	if err != nil || unhealthy == nil || ctx.Err() != nil {
		return err
	}
	if r.State != patch.StateRolledBack {
		f.log.Error().Err(unhealthy).Msg("server not healthy; going on")
		return nil
	}
	r.Error += "; it has its old version back, but " + unhealthy.Error()
	return f.settle(r)
}

// finish ends a patch: what became of it goes into the ledger, then its backups and its journal go away.
func (f *follower) finish() error {
	r := f.journal.Report()
	if r.State != "" {
		if err := f.settle(r); err != nil {
			return err
		}
	}
	if r.State == patch.StateApplied {
		if err := f.drift.accept(r.Patch, f.journal.Content()); err != nil {
			return err
		}
	}
	return f.journal.End()
}
