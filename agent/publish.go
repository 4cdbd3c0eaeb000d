package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/join"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
	"github.com/omflow-booster/omflow-booster/internal/tree"
)

const windowsTimeout = 5 * time.Second // for a look at all servers

// publisher publishes what was changed here, and what somebody has put into the inbox.
type publisher struct {
	node     string
	home     *homeDir
	dir      *dataDir
	js       jetstream.JetStream
	trust    *trust
	ledger   *ledger
	baseline *baseline
	drift    driftTouch
	log      zerolog.Logger
}

// driftTouch is what the publisher needs of the drift.
type driftTouch interface {
	touch()                                       // has the next look compare the home
	repeats(changes []tree.Change) map[string]int // counts how often each path was changed again soon after its last patch
}

func newPublisher(p publisher) (*publisher, error) { return complete(&p) }

// publishDrift makes changes that were found here a patch for all servers, this one included: it is the first to have its files, and
// has to prove them like the others.
func (p *publisher) publishDrift(ctx context.Context, changes []tree.Change) error {
	digest := tree.DigestOf(changes)
	keys, err := p.trust.signer()
	if errors.Is(err, join.ErrNoPrivateKey) || errors.Is(err, errNoKey) {
		return nil // they stay drift, that the agent reports
	}
	if err != nil {
		return err
	}
	artifact := p.dir.artifact(outgoing)
	m := p.baseline.published()
	if _, err := os.Stat(artifact); err != nil || m.Digest != digest { // not begun by an earlier try
		built, err := p.buildDrift(artifact, changes, keys)
		if err != nil {
			return err
		}
		if changed := changedSince(changes, built); changed != "" {
			_ = os.Remove(artifact)
			p.log.Info().Str("file", changed).Msg("a file was changed while a patch was made of it; looking again")
			p.drift.touch()
			return nil
		}
		m = publishedTree{Digest: digest, Patch: built.ID, Repeats: p.drift.repeats(changes)}
		if err := p.baseline.publish(m); err != nil {
			return err
		}
	}
	// Servers that find the same difference at the same place in the order publish it once.
	a, err := p.publish(ctx, artifact, fmt.Sprintf("tree-%d-%s", p.ledger.read().Seq, digest))
	if err != nil {
		return err
	}
	p.log.Info().Str(logging.Patch, a.ID).Int("files", len(changes)).Msg("changed files published for all servers")
	_ = os.Remove(artifact)
	return p.baseline.sent()
}

// publish stores and announces an artifact. This server is the first to apply it: if it does no good, then here. once, if not empty,
// is a reason that several servers may have to publish the same (patch.AnnounceOnce).
func (p *publisher) publish(ctx context.Context, artifact, once string) (a patch.Announcement, err error) {
	rules, err := p.trust.rules()
	if err != nil {
		return a, err
	}
	if a, err = patch.Store(ctx, p.js, artifact, rules, nil); err != nil {
		return a, err
	}
	if err := rollout.Suggest(ctx, p.js, a.ID, p.node); err != nil {
		return a, err
	}
	return patch.AnnounceOnce(ctx, p.js, a, cmp.Or(once, a.ID))
}

// buildDrift writes the artifact.
func (p *publisher) buildDrift(artifact string, changes []tree.Change, signer patch.Signer) (patch.Manifest, error) {
	o := patch.Options{Author: p.node, Note: "changed on " + p.node, Signer: signer}
	o.Files, o.Bases = []string{}, map[string]string{}
	for _, c := range changes {
		switch c.Kind {
		case tree.Missing:
			o.Deletions = append(o.Deletions, c.Path)
			continue
		case tree.Added:
			o.Bases[c.Path] = patch.BaseNone
		default:
			o.Bases[c.Path] = c.Was.SHA256
		}
		o.Files = append(o.Files, c.Path)
	}
	if was := p.baseline.book().Version; patch.Older(p.home.version(), was) {
		o.From = was // by order of an operator, who wants the older version everywhere
	}
	m, err := patch.Create(artifact, p.home.FS(), o)
	if err != nil {
		return m, fmt.Errorf("publish changed files: %w", err)
	}
	return m, nil
}

// changedSince names a file that is not in the artifact as it was when it was found: its writer may not be done.
func changedSince(changes []tree.Change, m patch.Manifest) string {
	found := make(map[string]string, len(changes))
	for _, c := range changes {
		found[c.Path] = c.Is.SHA256
	}
	for _, f := range m.Files {
		if found[f.Path] != f.SHA256 {
			return f.Path
		}
	}
	return ""
}

// windowsThere returns a function that tells whether there are Windows servers. A server that does not answer may be one.
func windowsThere(js jetstream.JetStream) func() bool {
	return func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), windowsTimeout)
		defer cancel()
		there, err := patch.WindowsThere(ctx, js)
		return there || err != nil
	}
}
