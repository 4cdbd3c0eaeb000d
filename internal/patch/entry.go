package patch

import (
	"archive/tar"
	"errors"
	"io"

	"github.com/omflow-booster/omflow-booster/internal/bundle"
)

// readEntry reads a small entry that has to come next.
func readEntry(archive *bundle.Reader, name string, limit int64) ([]byte, error) {
	h, err := archive.Next()
	if errors.Is(err, io.EOF) {
		return nil, invalid("%s is missing in the archive", name)
	}
	if err != nil {
		return nil, err
	}
	if h.Name != name || h.Typeflag != tar.TypeReg {
		return nil, invalid("it has %q where %s belongs; it was not built by `omflow-booster patch`", h.Name, name)
	}
	if h.Size > limit {
		return nil, invalid("its %s is larger than %d bytes", name, limit)
	}
	return io.ReadAll(archive)
}
