package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/atomicfile"
	"github.com/omflow-booster/omflow-booster/internal/bundle"
)

// ErrExists says that a file is there already and must not be overwritten.
var ErrExists = errors.New("file exists")

// Pack writes the snapshot in dir to one file, a tar archive compressed by zstd with the manifest first, and returns its size. The file has
// its name only when it is complete and on disk; until then it has a temporary one beside it, which goes when Pack fails. A file that is
// there already is refused with ErrExists unless overwrite is set.
func Pack(ctx context.Context, dir, file string, overwrite bool) (size int64, err error) {
	src, err := OpenDir(dir)
	if err != nil {
		return 0, err
	}
	if err := refuseExisting(file, overwrite); err != nil {
		return 0, err
	}
	err = atomicfile.Create(file, 0o600, func(w io.Writer) error { // for this user alone: steps carry what people typed
		if err := pack(ctx, w, dir, src.Manifest()); err != nil {
			return fmt.Errorf("write %s: %w", file, err)
		}
		return refuseExisting(file, overwrite) // again: somebody else had time
	})
	if err != nil {
		return 0, err
	}
	info, err := os.Stat(file)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func refuseExisting(file string, overwrite bool) error {
	info, err := os.Lstat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !overwrite:
		return fmt.Errorf("%w: %s", ErrExists, file)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", file)
	}
	return nil
}

func pack(ctx context.Context, w io.Writer, dir string, m Manifest) error {
	archive, err := bundle.NewWriter(w)
	if err != nil {
		return err
	}
	err = packFile(ctx, archive, dir, manifestName, m.Created)
	for i := 0; err == nil && i < len(m.Streams); i++ {
		err = packFile(ctx, archive, dir, m.Streams[i].File, m.Created)
	}
	closed := archive.Close()
	if err != nil {
		return err // that it is not whole, too, tells nobody anything
	}
	return closed
}

func packFile(ctx context.Context, archive *bundle.Writer, dir, name string, created time.Time) error {
	in, err := os.Open(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if err := archive.Begin(name, 0o600, info.Size(), created); err != nil {
		return err
	}
	_, err = io.Copy(archive, contextReader{ctx, in})
	return err
}

// contextReader ends a long copy when ctx ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
