package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/tree"
)

const (
	offerWait = 2 * time.Second  // for the offers of other servers
	giftWait  = 10 * time.Minute // for one of them to make its artifact
	giftEvery = time.Second
)

// errNoHome keeps a new server waiting.
var errNoHome = errors.New("OMFLOW_HOME is empty, and no other server offers its files: one has to run whose join file signs, with AGENT_PROVISION=on and no drift")

// isNew tells whether this host has no OMFLOW Server yet, but is to have one: its home is empty, and never was anything else. An agent without
// OMFLOW_COMMAND runs no server, whatever its home has.
func (f *follower) isNew(ctx context.Context) bool {
	if f.cfg.Provision == "off" || len(f.cfg.command) == 0 || f.journal.Phase() != patch.Idle || len(f.ledger.read().Entries) > 0 || f.drift.book().Files != nil {
		return false
	}
	found, err := tree.NewScanner(f.home, f.cfg.ignore).Scan(ctx, 0)
	return err == nil && len(found.Files)+len(found.Stays) == 0
}

func (f *follower) isBare() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bare
}

func (f *follower) setBare(bare bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bare = bare
}

// provision fills an empty home with the files of another server, and starts it. Patches that they do not have follow one by one.
func (f *follower) provision(ctx context.Context) error {
	if err := f.trust.possible(); err != nil {
		return err
	}
	f.setState(stateWaiting + "the files of another server")
	offer, err := f.homeOffer(ctx)
	if err != nil {
		return err
	}
	f.log.Info().Str("from", offer.Node).Str("version", offer.Version).Int("files", offer.Files).Msg("the home is empty; asking for the files of another server")
	a, err := f.giftWithSettings(ctx, offer)
	if err != nil {
		return fmt.Errorf("files of %s: %w", offer.Node, err)
	}
	f.setState("applying")
	if err := f.fetch(ctx, a); err != nil {
		return err
	}
	if _, _, err := f.verify(a, true); err != nil {
		return err
	}
	a.Seq = offer.Seq
	var keep []string
	if own, err := tree.Read(f.home, patch.SettingsFile); err != nil || own != "" { // somebody has put this server's own there
		keep = []string{patch.SettingsFile}
	}
	if err := f.stage(a, time.Now(), nil, keep); err != nil {
		return err
	}
	if err := f.journal.Switch(); err != nil {
		return errors.Join(err, f.unprovision(ctx))
	}
	_ = os.Remove(f.dir.artifact(a.ID))
	f.log.Info().Str(logging.Patch, a.ID).Str("from", offer.Node).Str("version", offer.Version).Msg("this server has the files of another one")
	f.setBare(false)
	f.inherited = false
	return f.prove(ctx)
}

// homeOffer is the best offer of files for this server: with settings, if it has none of its own.
func (f *follower) homeOffer(ctx context.Context) (bus.HomeOffer, error) {
	needed, err := f.needsSettings()
	if err != nil {
		return bus.HomeOffer{}, err
	}
	kept := false
	offer, err := f.bestOffer(ctx, func(o bus.HomeOffer) bool {
		fits := !needed || o.Settings == bus.SettingsNone || o.Settings == bus.SettingsGiven
		kept = kept || !fits
		return fits
	})
	if kept && errors.Is(err, errNoHome) {
		err = errNoSettings
	}
	return offer, err
}

// giftWithSettings asks an agent for its files, and puts its settings into place if there are none here.
func (f *follower) giftWithSettings(ctx context.Context, offer bus.HomeOffer) (a patch.Announcement, err error) {
	needed, err := f.needsSettings()
	if err != nil || !needed || offer.Settings != bus.SettingsGiven {
		a, _, err = f.gift(ctx, offer, bus.HomeRequest{})
		return a, err
	}
	signer, err := f.trust.signer()
	if err != nil {
		return a, fmt.Errorf("%w (%w)", errNoSettings, err)
	}
	asker, err := newSettingsAsker()
	if err != nil {
		return a, err
	}
	a, gift, err := f.gift(ctx, offer, bus.HomeRequest{Settings: asker.request(offer.Node, signer)})
	if err == nil {
		err = f.takeSettings(asker, gift)
	}
	return a, err
}

// unprovision takes back what was brought of another server's files, and did not get into place completely.
func (f *follower) unprovision(ctx context.Context) error {
	if err := f.journal.Restore(""); err != nil {
		return err
	}
	if err := f.journal.End(); err != nil {
		return err
	}
	if f.setBare(f.isNew(ctx)); !f.isBare() {
		_ = f.host.start(ctx) // the log of the child says why it is not healthy
	}
	return nil
}

// bestOffer asks all agents, and takes the one of use that has the newest patches.
func (f *follower) bestOffer(ctx context.Context, use func(o bus.HomeOffer) bool) (best bus.HomeOffer, err error) {
	wait, cancel := context.WithTimeout(ctx, offerWait)
	defer cancel()
	err = bus.AskAll(wait, f.client.NC, bus.HomeSubject, nil, func(answer []byte) bool {
		var o bus.HomeOffer
		if json.Unmarshal(answer, &o) == nil && o.Node != "" && use(o) && (best.Node == "" || o.Seq > best.Seq) {
			best = o
		}
		return false
	})
	if err == nil && best.Node == "" {
		err = errNoHome
	}
	return best, errors.Join(ctx.Err(), err)
}

// gift asks one agent for its files until they are stored.
func (f *follower) gift(ctx context.Context, offer bus.HomeOffer, want bus.HomeRequest) (a patch.Announcement, g bus.HomeGift, err error) {
	question, err := json.Marshal(want)
	if err != nil {
		return a, g, err
	}
	ctx, cancel := context.WithTimeout(ctx, giftWait)
	defer cancel()
	for {
		reply, err := f.client.NC.RequestWithContext(ctx, bus.GiveSubject(offer.Node), question)
		if err != nil {
			return a, g, err
		}
		g = bus.HomeGift{}
		if err := json.Unmarshal(reply.Data, &g); err != nil {
			return a, g, err
		}
		switch {
		case g.Error != "":
			return a, g, errors.New(g.Error)
		case g.Seq != offer.Seq:
			return a, g, errors.New("it has been patched meanwhile")
		case len(g.Artifact) > 0:
			if err := json.Unmarshal(g.Artifact, &a); err != nil {
				return a, g, err
			}
			return a, g, a.Check()
		}
		if !bus.Sleep(ctx, giftEvery) {
			return a, g, ctx.Err()
		}
	}
}
