package patch

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"io"

	"github.com/omflow-booster/omflow-booster/internal/bundle"
	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// visitor sees an artifact go by. file must not keep r; what it leaves unread is read and checked all the same.
type visitor struct {
	trust Trust // nil for an artifact of this host's own, which Verify has seen before
	begin func(m Manifest) error
	file  func(i int, f File, r io.Reader) error
}

// Verify reads an artifact from its first to its last byte and returns its manifest. It fails with ErrInvalid unless trust takes the
// signature and the archive holds exactly what its manifest says, and never reads more than that. limit bounds the bytes of all files
// together.
func Verify(r io.Reader, limit int64, trust Trust) (Manifest, error) {
	return walk(r, limit, visitor{
		trust: trust,
		begin: func(Manifest) error { return nil },
		file:  func(int, File, io.Reader) error { return nil },
	})
}

// Head is the manifest of an artifact, whose files are not read: trust and limit are as for Verify.
func Head(r io.Reader, limit int64, trust Trust) (Manifest, error) {
	m, err := walk(r, limit, visitor{trust: trust, begin: func(Manifest) error { return errEnough }})
	if errors.Is(err, errEnough) {
		return m, nil
	}
	return m, err
}

var errEnough = errors.New("the manifest was read")

// walk reads an artifact once, in constant memory. A visitor must not trust a file before walk has returned nil.
func walk(r io.Reader, limit int64, v visitor) (Manifest, error) {
	archive, err := bundle.NewReader(invalid)
	if err != nil {
		return Manifest{}, err
	}
	defer archive.Close()
	if err := archive.Reset(r); err != nil {
		return Manifest{}, err
	}
	archive.Allow(maxManifestBytes + maxSignatureBytes + 2*bundle.Overhead)
	m, err := readManifest(archive, v.trust)
	if err != nil {
		return m, err
	}
	if err := m.Validate(limit); err != nil {
		return m, err
	}
	if err := v.begin(m); err != nil {
		return m, err
	}
	archive.Allow(m.Bytes() + int64(len(m.Files)+1)*bundle.Overhead)
	for i, f := range m.Files {
		if err := nextEntry(archive, filesPrefix+f.Path, f.Size); err != nil {
			return m, err
		}
		in := &checkedReader{r: archive, sum: sha256.New()}
		if err := v.file(i, f, in); err != nil {
			return m, err
		}
		if err := in.finish(f); err != nil {
			return m, err
		}
	}
	return m, archive.End()
}

// readManifest reads what comes before the files. Of a manifest that nobody answers for, it looks at the format alone.
func readManifest(archive *bundle.Reader, trust Trust) (Manifest, error) {
	var m Manifest
	data, err := readEntry(archive, manifestEntry, maxManifestBytes)
	if err != nil {
		return m, err
	}
	var version struct{ Format int }
	if err := json.Unmarshal(data, &version); err != nil {
		return m, invalid("its manifest cannot be read: %w", err)
	}
	// A newer format keeps its first two entries: nobody waits for an update because of what nobody answers for.
	newer := checkFormat(version.Format)
	if newer != nil && !errors.Is(newer, bus.ErrNewer) {
		return m, newer
	}
	s, err := readSignature(archive)
	if err != nil {
		return m, err
	}
	if trust != nil {
		if err := trust(s.Key, data, s.Signature); err != nil {
			return m, invalid("%w", err)
		}
	}
	if newer != nil {
		return m, newer
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, invalid("its manifest cannot be read: %w", err)
	}
	return m, nil
}

func nextEntry(archive *bundle.Reader, name string, size int64) error {
	h, err := archive.Next()
	switch {
	case errors.Is(err, io.EOF):
		return invalid("%q is missing in the archive", name)
	case err != nil:
		return err
	case h.Name != name:
		return invalid("the archive has %q where its manifest says %q", h.Name, name)
	case h.Typeflag != tar.TypeReg:
		return invalid("%q is a link or device in the archive; only regular files are possible", name)
	case h.Size != size:
		return invalid("%q has %d bytes in the archive and %d in the manifest", name, h.Size, size)
	}
	return nil
}

// checkedReader hands one file on and knows in the end whether it was the right one.
type checkedReader struct {
	r   io.Reader
	sum hash.Hash
}

func (c *checkedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.sum.Write(p[:n])
	return n, err
}

func (c *checkedReader) finish(f File) error {
	if _, err := io.Copy(io.Discard, c); err != nil {
		return err
	}
	if got := hex.EncodeToString(c.sum.Sum(nil)); got != f.SHA256 {
		return invalid("%s has sha256 %s instead of %s", f.Path, got, f.SHA256)
	}
	return nil
}
