package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/atomicfile"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// fetcher brings artifacts into the data directory, and checks them there.
type fetcher struct {
	dir   *dataDir
	js    jetstream.JetStream
	trust *trust
}

func newFetcher(dir *dataDir, js jetstream.JetStream, t *trust) (*fetcher, error) {
	return complete(&fetcher{dir: dir, js: js, trust: t})
}

// fetched tells whether an earlier try has fetched the artifact; verify looks at its content.
func (f *fetcher) fetched(a patch.Announcement) bool {
	info, err := os.Stat(f.dir.artifact(a.ID))
	return err == nil && info.Size() == a.Size
}

// fetch downloads the artifact, unless an earlier try has.
func (f *fetcher) fetch(ctx context.Context, a patch.Announcement) error {
	if a.Size > patch.DefaultLimit {
		return fmt.Errorf("%w: its artifact has more than %d bytes", patch.ErrInvalid, int64(patch.DefaultLimit))
	}
	if f.fetched(a) {
		return nil
	}
	err := atomicfile.Create(f.dir.artifact(a.ID), 0o600, func(w io.Writer) error { return patch.Fetch(ctx, f.js, a, w) })
	if err != nil {
		return fmt.Errorf("fetch artifact: %w", err)
	}
	return nil
}

// verify checks the fetched artifact to its last byte, its signature, and that it is what was announced; signer names the key. verify
// removes a bad one, so that the next try fetches it anew. whole: it must hold all files of a home, as none that is announced may.
func (f *fetcher) verify(a patch.Announcement, whole bool) (m patch.Manifest, signer string, err error) {
	rules, err := f.trust.rules()
	if err != nil {
		return m, "", err
	}
	artifact, err := os.Open(f.dir.artifact(a.ID))
	if err != nil {
		return m, "", fmt.Errorf("open artifact: %w", err)
	}
	defer func() { _ = artifact.Close() }()
	sum := sha256.New()
	m, err = patch.Verify(io.TeeReader(artifact, sum), patch.DefaultLimit, func(keyID string, manifest, signature []byte) error {
		signer = keyID
		return rules(keyID, manifest, signature)
	})
	if err == nil && hex.EncodeToString(sum.Sum(nil)) != a.SHA256 {
		err = fmt.Errorf("staged artifact: %w", patch.ErrMissing)
	}
	if err == nil {
		err = a.CheckManifest(m)
	}
	if err == nil && m.Whole != whole {
		err = fmt.Errorf("%w: it holds all files of a server; those are for new servers, and not announced", patch.ErrInvalid)
	}
	if err != nil {
		_ = os.Remove(artifact.Name())
	}
	return m, signer, err
}

// recheck looks once more whether the key of a verified artifact was revoked since.
func (f *fetcher) recheck(ctx context.Context, signer string) error {
	return f.trust.recheck(ctx, f.js, signer)
}
