package snapshot

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// OpenFile opens a file that Pack wrote. Nothing is unpacked to disk: streams are read where they are, in their order in one pass.
func OpenFile(name string) (Source, error) {
	in, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	p := &packed{in: in, source: &sourceReader{r: in}}
	if err := p.rewind(); err != nil {
		_ = p.Close()
		return nil, err
	}
	return p, nil
}

// packed is a packed snapshot, with the place up to which it is read.
type packed struct {
	in       *os.File
	source   *sourceReader
	unpacked *zstd.Decoder
	archive  *tar.Reader
	m        Manifest
}

func (p *packed) Manifest() Manifest { return p.m }

func (p *packed) Close() error {
	if p.unpacked != nil {
		p.unpacked.Close()
	}
	return p.in.Close()
}

// rewind begins again after the manifest.
func (p *packed) rewind() error {
	if _, err := p.in.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if p.unpacked == nil {
		var err error
		p.unpacked, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(2*windowBytes))
		if err != nil {
			return err
		}
	}
	if err := p.unpacked.Reset(p.source); err != nil {
		return p.blame(err)
	}
	p.archive = tar.NewReader(p.unpacked)
	h, err := p.archive.Next()
	if err != nil {
		return p.blame(err)
	}
	if h.Name != manifestName || h.Typeflag != tar.TypeReg {
		return invalid("it begins with %q instead of %s; it was not made by `omflow-booster backup`", h.Name, manifestName)
	}
	p.m, err = readManifest(p.archive)
	if err != nil {
		return p.blame(err)
	}
	return nil
}

func (p *packed) open(s Stream) (io.ReadCloser, error) {
	for rewound := false; ; {
		h, err := p.archive.Next()
		switch {
		case err == nil && h.Name == s.File && h.Typeflag == tar.TypeReg:
			return io.NopCloser(blamed{p}), nil
		case err == nil:
			continue
		case !errors.Is(err, io.EOF):
			return nil, p.blame(err)
		case rewound:
			return nil, invalid("%s is missing", s.File)
		}
		if err := p.rewind(); err != nil {
			return nil, err
		}
		rewound = true
	}
}

// Verify also makes sure that there is nothing else, and nothing after the end.
func (p *packed) Verify() error {
	if err := p.rewind(); err != nil {
		return err
	}
	if err := verifyStreams(p); err != nil {
		return err
	}
	switch h, err := p.archive.Next(); {
	case err == nil:
		return invalid("it has %q, which its manifest does not name", h.Name)
	case !errors.Is(err, io.EOF):
		return p.blame(err)
	}
	// The tar reader stops at its end mark; the checksum of the file as a whole comes after.
	if n, err := io.Copy(io.Discard, p.unpacked); err != nil {
		return p.blame(err)
	} else if n > 0 {
		return invalid("it has %d bytes after its end", n)
	}
	return p.rewind()
}

// blame returns the failure of the medium if there was one. Anything else is the fault of the file.
func (p *packed) blame(err error) error {
	switch {
	case p.source.err != nil:
		return fmt.Errorf("read snapshot: %w", p.source.err)
	case errors.Is(err, ErrInvalid):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return invalid("it ends too early")
	}
	return invalid("it is damaged: %w", err)
}

// blamed reads the entry at hand.
type blamed struct{ p *packed }

func (b blamed) Read(buf []byte) (int, error) {
	n, err := b.p.archive.Read(buf)
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.p.blame(err)
	}
	return n, err
}
