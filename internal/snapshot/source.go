package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Source is a snapshot to restore from: one of OpenDir or OpenFile. It is used by one goroutine at a time.
type Source interface {
	// Manifest says what the snapshot holds.
	Manifest() Manifest
	// Verify reads all of it, and fails with ErrInvalid unless it is what its manifest says. Everything that comes after relies on it.
	Verify() error
	// Close gives the files back.
	Close() error

	// open starts reading a stream's file.
	open(s Stream) (io.ReadCloser, error)
}

// OpenDir opens the directory that Take wrote.
func OpenDir(dir string) (Source, error) {
	in, err := os.Open(filepath.Join(dir, manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, invalid("%s has no %s", dir, manifestName)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	m, err := readManifest(in)
	if err != nil {
		return nil, err
	}
	return &directory{dir: dir, m: m}, nil
}

type directory struct {
	dir string
	m   Manifest
}

func (d *directory) Manifest() Manifest { return d.m }
func (d *directory) Close() error       { return nil }

func (d *directory) open(s Stream) (io.ReadCloser, error) {
	in, err := os.Open(filepath.Join(d.dir, filepath.FromSlash(s.File)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, invalid("%s is missing", s.File)
	}
	return in, err
}

func (d *directory) Verify() error { return verifyStreams(d) }

func readManifest(r io.Reader) (Manifest, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxManifestBytes+1))
	if err != nil {
		return Manifest{}, err
	}
	if len(data) > maxManifestBytes {
		return Manifest{}, invalid("%s is larger than %d bytes", manifestName, maxManifestBytes)
	}
	return decodeManifest(bytes.TrimSpace(data))
}

// verifyStreams reads every stream's file.
func verifyStreams(src Source) error {
	for _, s := range src.Manifest().Streams {
		if err := verifyStream(src, s); err != nil {
			return err
		}
	}
	return nil
}

func verifyStream(src Source, s Stream) error {
	in, err := src.open(s)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	// A byte more than promised is enough to know.
	seen := &countingReader{r: io.LimitReader(in, s.Size+1)}
	sum := sha256.New()
	c, scanned := inspect(io.TeeReader(seen, sum))
	if _, err := io.Copy(sum, seen); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); seen.n != s.Size || got != s.SHA256 {
		return invalid("%s is damaged: it has %d bytes with sha256 %s, and not %d with %s", s.File, seen.n, got, s.Size, s.SHA256)
	}
	if scanned != nil {
		return scanned
	}
	if err := c.differs(s); err != nil {
		return invalid("%s is not what %s says: %w", s.File, manifestName, err)
	}
	return nil
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
