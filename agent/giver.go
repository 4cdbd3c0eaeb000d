package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/nats-io/nats.go/micro"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// giftKept is how long an artifact of a home is given to those who ask. It is stored for longer (patch.HomesKept).
const giftKept = 10 * time.Minute

// giver hands the files of this server to new ones. What is asked for by others is made in the follower's goroutine, in which no patch is under way.
type giver struct {
	asked chan struct{}
	seal  func(asked *bus.SettingsRequest) (*bus.SealedSettings, error)

	mu    sync.Mutex
	offer *bus.HomeOffer // nil while this server is none that others should be like
	gift  *bus.HomeGift  // the last one; of use as long as it has the files of the offer, and for giftKept
	files string         // the baseline of those in the gift: a repair changes them between two patches
	made  time.Time      // when it was
	wants bool
}

func newGiver() *giver { return &giver{asked: make(chan struct{}, 1)} }

// addTo answers to those who ask.
func (g *giver) addTo(group micro.Group, node string) error {
	err := group.AddEndpoint(bus.EndpointHome, micro.HandlerFunc(func(r micro.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.offer != nil {
			_ = r.RespondJSON(g.offer)
		}
	}), micro.WithEndpointQueueGroupDisabled())
	if err != nil {
		return err
	}
	return group.AddEndpoint(bus.EndpointGive, micro.HandlerFunc(func(r micro.Request) { _ = r.RespondJSON(g.answerTo(r.Data())) }),
		micro.WithEndpointSubject(bus.EndpointGive+"."+bus.Token(node)), micro.WithEndpointQueueGroupDisabled())
}

// answerTo says how far the artifact is, with the settings if they are asked for. Who asks for nothing may be of a former release.
func (g *giver) answerTo(question []byte) bus.HomeGift {
	gift := g.answer()
	var asked bus.HomeRequest
	_ = json.Unmarshal(question, &asked)
	if asked.Settings == nil || len(gift.Artifact) == 0 {
		return gift
	}
	var err error
	if gift.Settings, err = g.seal(asked.Settings); err != nil {
		gift.SettingsError = err.Error()
	}
	return gift
}

// answer says how far the artifact is, and has it made.
func (g *giver) answer() bus.HomeGift {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.offer == nil:
		return bus.HomeGift{Error: "this server has no files to give now"}
	case g.gift != nil && g.gift.Seq == g.offer.Seq && g.files == g.offer.Baseline && g.gift.Error == "" && time.Since(g.made) < giftKept:
		return *g.gift
	case g.gift != nil && g.gift.Error != "":
		failed := *g.gift
		g.gift = nil // the next one who asks has it tried again
		return failed
	}
	g.wants = true
	wake(g.asked)
	return bus.HomeGift{Seq: g.offer.Seq}
}

// set says what this server has to give; nil for nothing.
func (g *giver) set(offer *bus.HomeOffer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.offer = offer
}

// wanted tells whether somebody waits.
func (g *giver) wanted() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.wants && g.offer != nil
}

func (g *giver) done(gift bus.HomeGift, baseline string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gift, g.files, g.made, g.wants = &gift, baseline, time.Now(), false
}

// offerHome says what this server can give: all of its files, if they are as its patches have left them.
func (f *follower) offerHome() *bus.HomeOffer {
	book := f.drift.book()
	_, unsigned := f.trust.signer()
	if f.cfg.Provision == "off" || unsigned != nil || len(book.Files) == 0 || !f.drift.clean() || f.standing() != "current" || f.sameHome() != nil {
		return nil
	}
	o := bus.HomeOffer{
		Node: f.node, Seq: f.ledger.read().Seq, Baseline: f.drift.baselineDigest(), Version: patch.HomeVersion(f.home.FS()), Files: len(book.Files),
	}
	for _, file := range book.Files {
		o.Bytes += file.Size
	}
	missing, err := f.needsSettings()
	switch {
	case err == nil && missing:
		o.Settings = bus.SettingsNone
	case f.cfg.Provision == provisionSettings:
		o.Settings = bus.SettingsGiven
	default:
		o.Settings = bus.SettingsKept
	}
	return &o
}

// give makes the artifact that somebody waits for.
func (f *follower) give(ctx context.Context) {
	offer := f.offerHome()
	f.giver.set(offer)
	if !f.giver.wanted() {
		return
	}
	gift := bus.HomeGift{Seq: offer.Seq}
	a, err := f.storeHome(ctx, *offer)
	if err == nil {
		gift.Artifact, err = json.Marshal(a)
	}
	if err != nil {
		gift.Error = err.Error()
		f.log.Warn().Err(err).Msg("files of this server not given to a new one")
	}
	f.giver.done(gift, offer.Baseline)
}

// storeHome builds an artifact of the whole home, but for what belongs to each server alone, and stores it.
func (f *follower) storeHome(ctx context.Context, offer bus.HomeOffer) (a patch.Announcement, err error) {
	if offer.Bytes > patch.DefaultLimit {
		return a, fmt.Errorf("its home has %s, and a server gives at most %s to a new one: copy OMFLOW_HOME there by hand",
			humanize.IBytes(uint64(offer.Bytes)), humanize.IBytes(patch.DefaultLimit))
	}
	signer, err := f.trust.signer()
	if err != nil {
		return a, err
	}
	files := slices.Collect(maps.Keys(f.drift.book().Files))
	artifact := f.dir.artifact(outgoingHome)
	_, err = patch.Create(artifact, f.home.FS(), patch.Options{
		Author: f.node, Note: fmt.Sprintf("all files of %s, up to patch %d", f.node, offer.Seq), Signer: signer, Files: files, Whole: true,
	})
	if err != nil {
		return a, err
	}
	defer func() { _ = os.Remove(artifact) }()
	rules, err := f.trust.rules()
	if err != nil {
		return a, err
	}
	if err := patch.ForgetHomes(ctx, f.client.JS); err != nil {
		return a, err
	}
	a, err = patch.Store(ctx, f.client.JS, artifact, rules, nil)
	if err == nil {
		f.log.Info().Str(logging.Patch, a.ID).Int("files", len(files)).Int64("bytes", a.Size).Msg("files of this server stored for new ones")
	}
	return a, err
}
