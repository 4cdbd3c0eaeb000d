package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/dustin/go-humanize"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// packer makes the artifact that a donor hands out. It works in the updater's goroutine, between two patches.
type packer struct {
	node      string
	provision string // AGENT_PROVISION
	home      *homeDir
	dir       *dataDir
	js        jetstream.JetStream
	trust     *trust
	ledger    *ledger
	baseline  *baseline
	drift     interface {
		clean() bool // tells whether the home is as it should be
	}
	donor *donor
	log   zerolog.Logger
}

func newPacker(p packer) (*packer, error) { return complete(&p) }

// withdraw ends the offer.
func (p *packer) withdraw() { p.donor.set(nil) }

// offer says what this server can give: all of its files, if they are as its patches have left them.
func (p *packer) offer() *bus.HomeOffer {
	files := p.baseline.files()
	_, unsigned := p.trust.signer()
	if p.provision == "off" || unsigned != nil || len(files) == 0 || !p.drift.clean() {
		return nil
	}
	if p.ledger.read().standing() != stateCurrent || p.home.same() != nil {
		return nil
	}
	o := bus.HomeOffer{
		Node: p.node, Seq: p.ledger.read().Seq, Baseline: p.baseline.digest(), Version: p.home.version(), Files: len(files),
	}
	for _, file := range files {
		o.Bytes += file.Size
	}
	missing, err := p.home.lacksSettings()
	switch {
	case err == nil && missing:
		o.Settings = bus.SettingsNone
	case p.provision == provisionSettings:
		o.Settings = bus.SettingsGiven
	default:
		o.Settings = bus.SettingsKept
	}
	return &o
}

// serve says what this server can give, and makes the artifact that somebody waits for.
func (p *packer) serve(ctx context.Context) {
	offer := p.offer()
	p.donor.set(offer)
	if !p.donor.wanted() {
		return
	}
	transfer := bus.HomeTransfer{Seq: offer.Seq}
	a, err := p.store(ctx, *offer)
	if err == nil {
		transfer.Artifact, err = json.Marshal(a)
	}
	if err != nil {
		transfer.Error = err.Error()
		p.log.Warn().Err(err).Msg("files of this server not given to a new one")
	}
	p.donor.done(transfer, offer.Baseline)
}

// store builds an artifact of the whole home, but for what belongs to each server alone, and stores it.
func (p *packer) store(ctx context.Context, offer bus.HomeOffer) (a patch.Announcement, err error) {
	if offer.Bytes > patch.DefaultLimit {
		return a, fmt.Errorf("its home has %s, and a server gives at most %s to a new one: copy OMFLOW_HOME there by hand",
			humanize.IBytes(uint64(offer.Bytes)), humanize.IBytes(patch.DefaultLimit))
	}
	signer, err := p.trust.signer()
	if err != nil {
		return a, err
	}
	files := slices.Collect(maps.Keys(p.baseline.files()))
	artifact := p.dir.artifact(outgoingHome)
	_, err = patch.Create(artifact, p.home.FS(), patch.Options{
		Author: p.node, Note: fmt.Sprintf("all files of %s, up to patch %d", p.node, offer.Seq), Signer: signer,
		Selection: patch.Selection{Files: files}, Whole: true,
	})
	if err != nil {
		return a, err
	}
	defer func() { _ = os.Remove(artifact) }()
	rules, err := p.trust.rules()
	if err != nil {
		return a, err
	}
	if err := patch.ForgetHomes(ctx, p.js); err != nil {
		return a, err
	}
	a, err = patch.Store(ctx, p.js, artifact, rules, nil)
	if err == nil {
		p.log.Info().Str(logging.Patch, a.ID).Int("files", len(files)).Int64("bytes", a.Size).Msg("files of this server stored for new ones")
	}
	return a, err
}
