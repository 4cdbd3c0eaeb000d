package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/join"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
	"github.com/omflow-booster/omflow-booster/internal/tree"
)

const windowsLimit = 5 * time.Second // for a look at all servers

// publishDrift makes changes that were found here a patch for all servers, this one included: it is the first to have its files, and has to prove
// them like the others.
func (f *follower) publishDrift(ctx context.Context, changes []tree.Change) error {
	digest := tree.DigestOf(changes)
	keys, err := f.trust.signer()
	if errors.Is(err, join.ErrVerifiesOnly) || errors.Is(err, errNoKey) {
		return nil // they stay drift, that the agent reports
	}
	if err != nil {
		return err
	}
	artifact := f.dir.artifact(outgoing)
	m := f.drift.book().Published
	if _, err := os.Stat(artifact); err != nil || m.Digest != digest { // not begun by an earlier try
		built, err := f.buildDrift(artifact, changes, keys)
		if err != nil {
			return err
		}
		if changed := changedSince(changes, built); changed != "" {
			_ = os.Remove(artifact)
			f.log.Info().Str("file", changed).Msg("a file was changed while a patch was made of it; looking again")
			f.drift.dirty = true
			return nil
		}
		m = publishedTree{Digest: digest, Patch: built.ID, Repeats: f.drift.repeats(changes, f.drift.book())}
		if err := f.drift.change(func(b *treeBook) { b.Published = m }); err != nil {
			return err
		}
	}
	// Servers that find the same difference at the same place in the order publish it once.
	a, err := f.publish(ctx, artifact, fmt.Sprintf("tree-%d-%s", f.ledger.read().Seq, digest))
	if err != nil {
		return err
	}
	f.log.Info().Str(logging.Patch, a.ID).Int("files", len(changes)).Msg("changed files published for all servers")
	_ = os.Remove(artifact)
	return f.drift.change(func(b *treeBook) { b.Published.Sent = true })
}

// publish stores and announces an artifact. This server is the first to apply it: if it does no good, then here. once, if not empty, is a reason that
// several servers may have to publish the same (patch.AnnounceOnce).
func (f *follower) publish(ctx context.Context, artifact, once string) (a patch.Announcement, err error) {
	rules, err := f.trust.rules()
	if err != nil {
		return a, err
	}
	if a, err = patch.Store(ctx, f.client.JS, artifact, rules, nil); err != nil {
		return a, err
	}
	if err := rollout.Suggest(ctx, f.client.JS, a.ID, f.node); err != nil {
		return a, err
	}
	return patch.AnnounceOnce(ctx, f.client.JS, a, cmp.Or(once, a.ID))
}

// buildDrift writes the artifact.
func (f *follower) buildDrift(artifact string, changes []tree.Change, signer patch.Signer) (patch.Manifest, error) {
	o := patch.Options{Author: f.node, Note: "changed on " + f.node, Signer: signer, Files: []string{}, Bases: map[string]string{}}
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
	if was := f.drift.book().Version; patch.Older(patch.HomeVersion(f.home.FS()), was) {
		o.From = was // by order of an operator, who wants the older version everywhere
	}
	m, err := patch.Create(artifact, f.home.FS(), o)
	if err != nil {
		return m, fmt.Errorf("publish changed files: %w", err)
	}
	return m, nil
}

// changedSince names a file that is not in the artifact as it was when it was found: whoever writes to it may not be done.
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

// windowsThere tells whether there are Windows servers. Who cannot be asked may be one.
func (f *follower) windowsThere() bool {
	ctx, cancel := context.WithTimeout(context.Background(), windowsLimit)
	defer cancel()
	there, err := patch.WindowsThere(ctx, f.client.JS)
	return there || err != nil
}
