package snapshot

import (
	"archive/tar"
	"errors"
	"io"
	"os"

	"github.com/omflow-booster/omflow-booster/internal/bundle"
)

// OpenFile opens a file that Pack wrote. Nothing is unpacked to disk: streams are read where they are, in their order in one pass.
func OpenFile(name string) (Source, error) {
	in, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	archive, err := bundle.NewReader(invalid)
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	p := &packed{in: in, archive: archive}
	if err := p.rewind(); err != nil {
		_ = p.Close()
		return nil, err
	}
	return p, nil
}

// packed is a packed snapshot, with the place up to which it is read.
type packed struct {
	in      *os.File
	archive *bundle.Reader
	m       Manifest
}

func (p *packed) Manifest() Manifest { return p.m }

func (p *packed) Close() error {
	p.archive.Close()
	return p.in.Close()
}

// rewind begins again after the manifest.
func (p *packed) rewind() error {
	if _, err := p.in.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := p.archive.Reset(p.in); err != nil {
		return err
	}
	h, err := p.archive.Next()
	switch {
	case errors.Is(err, io.EOF):
		return invalid("it is empty")
	case err != nil:
		return err
	case h.Name != manifestName || h.Typeflag != tar.TypeReg:
		return invalid("it begins with %q instead of %s; it was not made by `omflow-booster backup`", h.Name, manifestName)
	}
	p.m, err = readManifest(p.archive)
	return err
}

func (p *packed) open(s Stream) (io.ReadCloser, error) {
	for rewound := false; ; {
		h, err := p.archive.Next()
		switch {
		case err == nil && h.Name == s.File && h.Typeflag == tar.TypeReg:
			return io.NopCloser(p.archive), nil
		case err == nil:
			continue
		case !errors.Is(err, io.EOF):
			return nil, err
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
	if err := p.archive.End(); err != nil {
		return err
	}
	return p.rewind()
}
