package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/tree"
)

// provisioner fills an empty home with the files of another server.
type provisioner struct {
	home      *homeDir
	trust     *trust
	status    *status
	donors    donors
	artifacts artifacts
	installer *installer
	names     interface {
		forget() // has the names of the patches that came with the home be learnt
	}
	log zerolog.Logger
}

// donors are other agents, that offer the files of their servers.
type donors interface {
	bestOffer(ctx context.Context, use func(o bus.HomeOffer) bool) (bus.HomeOffer, error)
	transfer(ctx context.Context, offer bus.HomeOffer, want bus.HomeRequest) (patch.Announcement, bus.HomeTransfer, error)
}

func newProvisioner(p provisioner) (*provisioner, error) { return complete(&p) }

// provision fills an empty home with the files of another server, and starts it. Patches that they do not have follow one by one.
func (p *provisioner) provision(ctx context.Context) error {
	if err := p.trust.possible(); err != nil {
		return err
	}
	p.status.set(stateWaiting + "the files of another server")
	offer, err := p.homeOffer(ctx)
	if err != nil {
		return err
	}
	p.log.Info().Str("from", offer.Node).Str("version", offer.Version).Int("files", offer.Files).
		Msg("the home is empty; asking for the files of another server")
	a, err := p.transferWithSettings(ctx, offer)
	if err != nil {
		return fmt.Errorf("files of %s: %w", offer.Node, err)
	}
	p.status.set(stateApplying)
	if err := p.artifacts.fetch(ctx, a); err != nil {
		return err
	}
	if _, _, err := p.artifacts.verify(a, true); err != nil {
		return err
	}
	a.Seq = offer.Seq
	var keep []string
	if own, err := tree.Read(p.home.Root, patch.SettingsFile); err != nil || own != "" { // somebody has put this server's own there
		keep = []string{patch.SettingsFile}
	}
	if err := p.installer.stage(a, staging{started: time.Now(), keep: keep}); err != nil {
		return err
	}
	if err := p.installer.switchOver(a); err != nil {
		return errors.Join(err, p.installer.rollBackWhole(ctx))
	}
	p.log.Info().Str(logging.Patch, a.ID).Str("from", offer.Node).Str("version", offer.Version).Msg("this server has the files of another one")
	p.status.setBare(false)
	p.names.forget()
	return p.installer.activate(ctx)
}

// homeOffer is the best offer of files for this server: with settings, if it has none of its own.
func (p *provisioner) homeOffer(ctx context.Context) (bus.HomeOffer, error) {
	needed, err := p.home.lacksSettings()
	if err != nil {
		return bus.HomeOffer{}, err
	}
	kept := false
	offer, err := p.donors.bestOffer(ctx, func(o bus.HomeOffer) bool {
		fits := !needed || o.Settings == bus.SettingsNone || o.Settings == bus.SettingsGiven
		kept = kept || !fits
		return fits
	})
	if kept && errors.Is(err, errNoHome) {
		err = errNoSettings
	}
	return offer, err
}

// transferWithSettings asks an agent for its files, and puts its settings into place if there are none here.
func (p *provisioner) transferWithSettings(ctx context.Context, offer bus.HomeOffer) (a patch.Announcement, err error) {
	needed, err := p.home.lacksSettings()
	if err != nil || !needed || offer.Settings != bus.SettingsGiven {
		a, _, err = p.donors.transfer(ctx, offer, bus.HomeRequest{})
		return a, err
	}
	signer, err := p.trust.signer()
	if err != nil {
		return a, fmt.Errorf("%w (%w)", errNoSettings, err)
	}
	asker, err := newSettingsAsker()
	if err != nil {
		return a, err
	}
	a, answer, err := p.donors.transfer(ctx, offer, bus.HomeRequest{Settings: asker.request(offer.Node, signer)})
	if err == nil {
		err = p.takeSettings(asker, answer)
	}
	return a, err
}

// takeSettings writes what another server has given.
func (p *provisioner) takeSettings(asker settingsAsker, answer bus.HomeTransfer) error {
	if answer.Settings == nil {
		return fmt.Errorf("%w (%s)", errNoSettings, answer.SettingsError)
	}
	rules, err := p.trust.rules()
	if err != nil {
		return err
	}
	file, err := asker.open(answer.Settings, rules)
	if err != nil {
		return err
	}
	return patch.WriteLocal(p.home.Root, patch.SettingsFile, file.Content, file.Mode)
}
