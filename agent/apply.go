package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

// errRolledBack is returned by a try that had stopped the server and was rolled back.
var errRolledBack = errors.New("rolled back")

// applier brings one patch into the home: download, grant, stage, stop, switch, activate.
type applier struct {
	home      *homeDir
	artifacts artifacts
	conflicts *conflicts
	witness   sparer
	turns     turns
	grants    *grants
	reverts   keeper
	installer *installer
	status    *status
	log       zerolog.Logger
}

// What the applier needs of others.
type (
	artifacts interface {
		fetched(a patch.Announcement) bool
		fetch(ctx context.Context, a patch.Announcement) error
		verify(a patch.Announcement, whole bool) (m patch.Manifest, signer string, err error)
		recheck(ctx context.Context, signer string) error // fails if the key was revoked since
	}
	sparer interface {
		spare(ctx context.Context) error // fails with errWitnessBusy if the Boosters need this host
	}
	keeper interface {
		keep(a patch.Announcement) // keeps how to revert the patch that is staged
	}
)

func newApplier(a applier) (*applier, error) { return complete(&a) }

// change is what a patch is about to do to the home.
type change struct {
	manifest patch.Manifest
	signer   string // its key
	started  time.Time
	keep     []string // paths that stay as they are here
	seen     glance   // the files, before it was looked for contradictions
}

// apply follows one patch from its announcement to its report. An error matches errRolledBack if the server was stopped for nothing,
// and every other error means that nobody has noticed anything yet, or that the journal says how to go on.
func (p *applier) apply(ctx context.Context, a patch.Announcement) error {
	defer p.status.setWants("")
	c := change{started: time.Now()}
	if err := p.download(ctx, a, &c); err != nil {
		return err
	}
	if err := p.grant(ctx, a, &c); err != nil {
		return err
	}
	if err := p.stage(ctx, a, c); err != nil {
		return err
	}
	log := p.log.With().Str(logging.Patch, a.ID).Logger()
	if err := p.stop(ctx, a, log); err != nil {
		return err
	}
	if err := p.switchOver(ctx, a, c, log); err != nil {
		return err
	}
	return p.installer.activate(ctx)
}

// fetchedByAll is the size of an artifact that every node may fetch at once, in bytes.
const fetchedByAll = 1 << 20

// download fetches and checks the artifact completely, before anything else.
func (p *applier) download(ctx context.Context, a patch.Announcement, c *change) (err error) {
	if a.Size > fetchedByAll && !p.artifacts.fetched(a) {
		if err := p.grants.toFetch(ctx, a); err != nil {
			return err
		}
	}
	if err := p.artifacts.fetch(ctx, a); err != nil {
		return err
	}
	c.manifest, c.signer, err = p.artifacts.verify(a, false)
	return err
}

// grant waits for the node's turn. Whatever was looked at before is looked at again then, because the turn may come hours later.
func (p *applier) grant(ctx context.Context, a patch.Announcement, c *change) (err error) {
	if _, err := p.conflicts.resolve(ctx, p.turns.of(a.ID), a, c.manifest); err != nil {
		return err
	}
	if err := p.witness.spare(ctx); err != nil { // a turn that it cannot use would keep the others waiting
		p.status.setNext("")
		return err
	}
	if err := p.grants.toApply(ctx, a); err != nil {
		return err
	}
	if err := p.artifacts.recheck(ctx, c.signer); err != nil {
		return err
	}
	c.seen = glanceAt(p.home.Root, c.manifest)
	c.keep, err = p.conflicts.resolve(ctx, p.turns.of(a.ID), a, c.manifest)
	return err
}

// stage writes the new files beside the old ones, keeps how to revert them, and looks a last time whether the server may stop. Until
// then nobody notices a failure.
func (p *applier) stage(ctx context.Context, a patch.Announcement, c change) error {
	if err := p.installer.stage(a, staging{started: c.started, keep: c.keep}); err != nil {
		return err
	}
	p.reverts.keep(a)
	err := p.home.same() // the turn may have come hours later
	if err == nil {
		err = p.witness.spare(ctx)
	}
	if err == nil {
		err = p.turns.of(a.ID).Check(ctx) // staging takes its time
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, errWitnessBusy) || errors.Is(err, errOtherHome) {
		p.status.setNext("") // a turn that it cannot use would keep the others waiting
	}
	return errors.Join(err, p.installer.unstage())
}

// stop stops what the patch wants stopped. That takes its time, so the turn is looked at once more; a Booster that does not answer
// just now has not ended it.
func (p *applier) stop(ctx context.Context, a patch.Announcement, log zerolog.Logger) error {
	log.Info().Str("restart", p.installer.journal.Hooks().Restarted()).Msg("applying patch")
	if err := p.installer.stop(); err != nil {
		return errors.Join(err, p.installer.rollBack(ctx, ""))
	}
	if err := p.turns.of(a.ID).Check(ctx); errors.Is(err, rollout.ErrNoTurn) {
		log.Warn().Err(err).Msg("the turn ended before the patch was in place; rolling back")
		return errors.Join(err, p.installer.rollBack(ctx, ""))
	}
	return nil
}

// switchOver puts the new files into place. From the first change on the patch goes through, whatever happens to the turn.
func (p *applier) switchOver(ctx context.Context, a patch.Announcement, c change, log zerolog.Logger) error {
	err := p.stillFits(c)
	if err == nil {
		err = p.installer.switchOver(a)
	}
	if err == nil {
		return nil
	}
	log.Error().Err(err).Msg("patch not put into place; rolling back")
	if failed := p.installer.rollBack(ctx, ""); failed != nil {
		return errors.Join(err, failed)
	}
	return fmt.Errorf("%w: %w", errRolledBack, err)
}

// stillFits fails if a file was edited while its replacement was written and the server stopped, and the edit would be lost.
func (p *applier) stillFits(c change) error {
	touched := c.seen.touched(p.home.Root)
	if len(touched) == 0 {
		return nil
	}
	found, err := p.conflicts.find(c.manifest)
	if err != nil {
		return err
	}
	lost := slices.DeleteFunc(found, func(name string) bool { return !slices.Contains(touched, name) || slices.Contains(c.keep, name) })
	if len(lost) > 0 {
		return fmt.Errorf("%s edited while the patch was about to replace it", someOf(lost))
	}
	return nil
}
