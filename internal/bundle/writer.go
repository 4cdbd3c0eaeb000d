package bundle

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/klauspost/compress/zstd"
)

// Writer writes one archive.
type Writer struct {
	packed  *zstd.Encoder
	entries *tar.Writer
}

// NewWriter begins an archive. Close it even after an error: it ends goroutines.
func NewWriter(w io.Writer) (*Writer, error) {
	packed, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(windowBytes))
	if err != nil {
		return nil, fmt.Errorf("write archive: %w", err)
	}
	return &Writer{packed: packed, entries: tar.NewWriter(packed)}, nil
}

// Begin begins a regular file; its content is to follow by Write.
func (w *Writer) Begin(name string, mode fs.FileMode, size int64, modified time.Time) error {
	return w.entries.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Mode: int64(mode.Perm()), Size: size, ModTime: modified.Truncate(time.Second), Format: tar.FormatPAX,
	})
}

// Write adds to the file that was begun. More than it was to have is an error, tar.ErrWriteTooLong.
func (w *Writer) Write(p []byte) (int, error) { return w.entries.Write(p) }

// Close ends the archive; an error says that it is not whole.
func (w *Writer) Close() error { return errors.Join(w.entries.Close(), w.packed.Close()) }
