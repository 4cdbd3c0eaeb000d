package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// installer takes one artifact after the other through the journal: stage, stop, switch, activate, finish. Applier, provisioner and
// repairer call it; what a crash has left under way, the resumer brings to its end with it.
type installer struct {
	node     string
	home     *homeDir
	dir      *dataDir
	journal  *patch.Journal
	restarts *restarter
	hooks    hookRunner
	baseline accepter
	reports  settler
	vacancy  vacancyFinder
	log      zerolog.Logger
}

// What the installer needs of others.
type (
	hookRunner interface {
		run(ctx context.Context) error // does what a patch wants done besides its files
		forget()                       // has the next run do everything
	}
	accepter interface {
		accept(patchID string, c patch.Content) error // makes what a patch has left the baseline
	}
	settler interface {
		settle(end patch.Report) error // records the end of a patch
	}
	vacancyFinder interface {
		find(ctx context.Context) bool // tells whether there is no server here
	}
)

func newInstaller(i installer) (*installer, error) { return complete(&i) }

// staging is what an artifact is to do with the home, besides bringing its files.
type staging struct {
	started time.Time
	remove  []string // files that go
	keep    []string // files that stay as they are here
}

// stage writes the new files beside the old ones, while everything still runs.
func (i *installer) stage(a patch.Announcement, s staging) error {
	artifact, err := os.Open(i.dir.artifact(a.ID))
	if err != nil {
		return fmt.Errorf("open artifact: %w", err)
	}
	defer func() { _ = artifact.Close() }()
	return i.journal.StageExact(artifact, patch.DefaultLimit, patch.Report{
		Node: i.node, Seq: a.Seq, Created: a.Created, From: i.home.version(), Started: s.started,
	}, s.remove, s.keep...)
}

// unstage forgets what is staged. Nobody notices.
func (i *installer) unstage() error { return errors.Join(i.journal.Restore(""), i.journal.End()) }

// stop stops what the staged patch wants stopped before its files change.
func (i *installer) stop() error { return i.restarts.stop(i.journal.Hooks()) }

// switchOver puts the new files into place. From here on the patch goes through: either the server is healthy with it, or everything
// is rolled back.
func (i *installer) switchOver(a patch.Announcement) error {
	if err := i.journal.Switch(); err != nil {
		return err
	}
	_ = os.Remove(i.dir.artifact(a.ID)) // it is not needed again, and the journal may need the room
	i.hooks.forget()
	return nil
}

// activate runs the hooks and starts the server on a home that was switched. If the server becomes healthy the patch is committed and
// the worker starts, too; else the old version comes back, and no step has run with the new one. If ctx ends before either, the next
// start of the agent goes on from here.
func (i *installer) activate(ctx context.Context) error {
	if i.journal.Content().Whole { // there is nothing to go back to
		if err := i.commit(); err != nil {
			return err
		}
		_ = i.restarts.start(ctx) // the log of the child says why it is not healthy
		return nil
	}
	if err := i.hooks.run(ctx); err != nil && ctx.Err() == nil {
		i.log.Error().Err(err).Msg("patch not put to work; restoring the old version")
		return i.rollBack(ctx, err.Error())
	}
	unhealthy := i.restarts.prove(ctx, i.journal.Hooks())
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case unhealthy != nil:
		i.log.Error().Err(unhealthy).Msg("server not healthy with the patch; restoring the old version")
		return i.rollBack(ctx, unhealthy.Error())
	}
	i.restarts.startWorker()
	return i.commit()
}

// commit keeps the new version: there is no way back.
func (i *installer) commit() error {
	if err := i.journal.Commit(); err != nil {
		return err
	}
	return i.finish()
}

// rollBack restores the old version and starts the host with it. With a reason the patch is settled as rolled back, without one
// it is to be tried again. If the old version cannot be restored now, nothing is started unless the home is in one version: half a
// patch can do worse to tickets than one server less. The next round tries again.
func (i *installer) rollBack(ctx context.Context, reason string) error {
	hooks := i.journal.Hooks()
	if reason != "" {
		hooks.Restart = patch.RestartServer // it may have loaded anything
	}
	if i.journal.Phase() != patch.Staging { // what only lies beside the files disturbs nobody
		if err := i.restarts.stop(hooks); err != nil {
			return err
		}
	}
	err := i.journal.Restore(reason)
	if !i.journal.Phase().Whole() {
		return errors.Join(fmt.Errorf("the server stays stopped until its old version is restored: %w", err), i.restarts.stopAll())
	}
	end := i.journal.Report()
	if err == nil {
		err = i.finish()
	}
	unhealthy := i.restarts.start(ctx)
	if err != nil || unhealthy == nil || ctx.Err() != nil {
		return err
	}
	if end.State != patch.StateRolledBack {
		i.log.Error().Err(unhealthy).Msg("server not healthy; going on")
		return nil
	}
	end.Error += "; it has its old version back, but " + unhealthy.Error()
	return i.reports.settle(end)
}

// rollBackWhole takes away what was brought of another server's files and did not get into place completely. It starts the server, if
// there is one.
func (i *installer) rollBackWhole(ctx context.Context) error {
	if err := i.journal.Restore(""); err != nil {
		return err
	}
	if err := i.journal.End(); err != nil {
		return err
	}
	if !i.vacancy.find(ctx) {
		_ = i.restarts.start(ctx) // the log of the child says why it is not healthy
	}
	return nil
}

// finish ends a patch: what became of it goes into the ledger, then its backups and its journal go away.
func (i *installer) finish() error {
	end := i.journal.Report()
	if end.State != "" {
		if err := i.reports.settle(end); err != nil {
			return err
		}
	}
	if end.State == patch.StateApplied {
		if err := i.baseline.accept(end.Patch, i.journal.Content()); err != nil {
			return err
		}
	}
	return i.journal.End()
}
