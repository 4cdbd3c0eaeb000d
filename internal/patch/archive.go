package patch

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"
)

// tarOverhead is more than the headers and padding of one entry with the longest path can take.
const tarOverhead = 8 << 10

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

// walk reads an artifact once, in constant memory. Whoever visits must not trust a file before walk has returned nil.
func walk(r io.Reader, limit int64, v visitor) (Manifest, error) {
	source := &sourceReader{r: r}
	unpacked, err := zstd.NewReader(source, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(2*windowBytes))
	if err != nil {
		return Manifest{}, source.blame(err)
	}
	defer unpacked.Close()
	plain := &budgetReader{r: unpacked, left: maxManifestBytes + maxSignatureBytes + 2*tarOverhead}
	archive := tar.NewReader(plain)

	m, err := readManifest(archive, v.trust)
	if err != nil {
		return m, source.blame(err)
	}
	if err := m.Validate(limit); err != nil {
		return m, err
	}
	if err := v.begin(m); err != nil {
		return m, err
	}
	plain.left = m.Bytes() + int64(len(m.Files)+1)*tarOverhead
	for i, f := range m.Files {
		if err := nextEntry(archive, filesPrefix+f.Path, f.Size); err != nil {
			return m, source.blame(err)
		}
		in := &checkedReader{r: archive, sum: sha256.New(), source: source}
		if err := v.file(i, f, in); err != nil {
			return m, err
		}
		if err := in.finish(f); err != nil {
			return m, err
		}
	}
	switch h, err := archive.Next(); {
	case err == nil:
		return m, invalid("the archive has %q, which its manifest does not name", h.Name)
	case !errors.Is(err, io.EOF):
		return m, source.blame(err)
	}
	// The tar reader stops at its end mark; what comes after it, nobody would have looked at.
	if n, err := io.Copy(io.Discard, plain); err != nil {
		return m, source.blame(err)
	} else if n > 0 {
		return m, invalid("the archive has %d bytes after its end", n)
	}
	return m, nil
}

// readManifest reads what comes before the files. Of a manifest that nobody answers for, it looks at the format alone.
func readManifest(archive *tar.Reader, trust Trust) (Manifest, error) {
	var m Manifest
	data, err := readEntry(archive, manifestEntry, maxManifestBytes)
	if err != nil {
		return m, err
	}
	var version struct{ Format int }
	if err := json.Unmarshal(data, &version); err != nil {
		return m, invalid("its manifest cannot be read: %w", err)
	}
	if err := checkFormat(version.Format); err != nil {
		return m, err
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
	if err := json.Unmarshal(data, &m); err != nil {
		return m, invalid("its manifest cannot be read: %w", err)
	}
	return m, nil
}

// readEntry reads a small entry that has to come next.
func readEntry(archive *tar.Reader, name string, limit int64) ([]byte, error) {
	h, err := archive.Next()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if h.Name != name || h.Typeflag != tar.TypeReg {
		return nil, invalid("it has %q where %s belongs; it was not built by `omflow-booster patch`", h.Name, name)
	}
	if h.Size > limit {
		return nil, invalid("its %s is larger than %d bytes", name, limit)
	}
	data, err := io.ReadAll(archive)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

func nextEntry(archive *tar.Reader, name string, size int64) error {
	h, err := archive.Next()
	switch {
	case errors.Is(err, io.EOF):
		return invalid("%q is missing in the archive", name)
	case err != nil:
		return fmt.Errorf("read %s: %w", name, err)
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
	r      io.Reader
	sum    hash.Hash
	source *sourceReader
}

func (c *checkedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.sum.Write(p[:n])
	if err != nil && !errors.Is(err, io.EOF) {
		err = c.source.blame(err)
	}
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

// budgetReader ends an archive that unpacks to more than it said.
type budgetReader struct {
	r    io.Reader
	left int64
}

func (b *budgetReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		// One byte more decides between the end and too much.
		if n, err := io.ReadFull(b.r, p[:min(len(p), 1)]); n == 0 {
			return 0, err
		}
		return 0, invalid("the archive holds more data than its manifest names")
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// sourceReader remembers whether the medium failed: then the artifact itself may be good, and trying again may help.
type sourceReader struct {
	r   io.Reader
	err error
}

func (s *sourceReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// blame returns the failure of the medium if there was one. Anything else is the fault of the artifact.
func (s *sourceReader) blame(err error) error {
	switch {
	case s.err != nil:
		return fmt.Errorf("read artifact: %w", s.err)
	case errors.Is(err, ErrInvalid):
		return err
	case errors.Is(err, io.EOF):
		return invalid("the archive ends too early")
	default:
		return invalid("the archive is damaged: %w", err)
	}
}
