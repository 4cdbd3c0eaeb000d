// Package bundle is the archive that this product writes and reads: tar, compressed with zstd. `tar --zstd -tf` shows it, too.
//
// It is read once from front to end, in bounded memory, and never trusted: the reader learns whether the archive is damaged,
// which is final, or the medium that it lies on has failed, which may pass.
package bundle

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"
)

// windowBytes bounds the memory that reading takes, whatever the size of an archive.
const windowBytes = 4 << 20

// Overhead is more than the headers and padding of one entry with a path of 1,024 bytes can take.
const Overhead = 8 << 10

// Reader reads one archive. It is used by one goroutine at a time.
type Reader struct {
	medium   medium
	unpacked *zstd.Decoder
	plain    budget
	entries  *tar.Reader
	invalid  func(format string, args ...any) error
}

// NewReader returns a reader without an archive; Reset gives it one. invalid makes the error for everything that is the fault of the
// archive; a failure of the medium is returned as it is, wrapped.
func NewReader(invalid func(format string, args ...any) error) (*Reader, error) {
	unpacked, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(2*windowBytes))
	if err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	return &Reader{unpacked: unpacked, invalid: invalid}, nil
}

// Reset begins with an archive, or once more.
func (r *Reader) Reset(in io.Reader) error {
	r.medium = medium{r: in}
	if err := r.unpacked.Reset(&r.medium); err != nil {
		return r.blame(err)
	}
	r.plain = budget{r: r.unpacked, left: math.MaxInt64}
	r.entries = tar.NewReader(&r.plain)
	return nil
}

// Allow ends the archive with an error when more than that many bytes follow, unpacked and with headers and padding.
func (r *Reader) Allow(bytes int64) { r.plain.left = bytes }

// Next goes on to the next entry. It returns io.EOF itself after the last one.
func (r *Reader) Next() (*tar.Header, error) {
	h, err := r.entries.Next()
	if err != nil && (!errors.Is(err, io.EOF) || r.medium.err != nil) {
		return nil, r.blame(err)
	}
	return h, err
}

// Read reads from the entry at hand.
func (r *Reader) Read(p []byte) (int, error) {
	n, err := r.entries.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = r.blame(err)
	}
	return n, err
}

// End makes sure that no entry follows, and nothing else: the tar reader stops at its end mark, and what comes after it, the checksum
// of the whole among it, nobody would have looked at.
func (r *Reader) End() error {
	switch h, err := r.Next(); {
	case err == nil:
		return r.invalid("the archive has %q, which its manifest does not name", h.Name)
	case !errors.Is(err, io.EOF):
		return err
	}
	n, err := io.Copy(io.Discard, &r.plain)
	if err != nil {
		return r.blame(err)
	}
	if n > 0 {
		return r.invalid("the archive has %d bytes after its end", n)
	}
	return nil
}

// Close gives the memory back. The medium is the caller's.
func (r *Reader) Close() { r.unpacked.Close() }

// blame returns the failure of the medium if there was one. Anything else is the fault of the archive.
func (r *Reader) blame(err error) error {
	switch {
	case r.medium.err != nil:
		return fmt.Errorf("read archive: %w", r.medium.err)
	case errors.Is(err, errTooMuch):
		return r.invalid("%w", errTooMuch)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return r.invalid("the archive ends too early")
	}
	return r.invalid("the archive is damaged: %w", err)
}

// medium remembers whether it failed: then the archive itself may be good, and trying again may help.
type medium struct {
	r   io.Reader
	err error
}

func (m *medium) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		m.err = err
	}
	return n, err
}

var errTooMuch = errors.New("the archive holds more data than its manifest names")

// budget ends an archive that unpacks to more than it may.
type budget struct {
	r    io.Reader
	left int64
}

func (b *budget) Read(p []byte) (int, error) {
	if b.left <= 0 {
		// One byte more decides between the end and too much.
		if n, err := io.ReadFull(b.r, p[:min(len(p), 1)]); n == 0 {
			return 0, err
		}
		return 0, errTooMuch
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
