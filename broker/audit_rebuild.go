package broker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/omflow-booster/omflow-booster/internal/atomicfile"
)

// A copy that differs is put aside before the server starts, and the server fetches the stream anew from its leader. The log of the stream's group
// and its votes stay: a member that forgot them could vote twice in one election, or help one into office that lacks what it had itself confirmed.
// And Raft keeps the member from leading: who has not followed the log to its end is not elected.
const asideDir = "damaged" // in the data directory: copies that differed, until the new ones are found equal

func (s *store) streamDir(stream string) string {
	return filepath.Join(s.dir, storeName, "$G", "streams", stream)
}

// putAside moves the copy of a stream out of the server's way.
func (s *store) putAside(stream string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("put the damaged copy of %s aside: %w", stream, err)
		}
	}()
	from, to := s.streamDir(stream), s.path(filepath.Join(asideDir, stream))
	if err := os.RemoveAll(to); err != nil { // of an earlier time
		return err
	}
	if free, err := freeSpace(s.dir); err == nil && free < size(from)+minFree {
		return os.RemoveAll(from) // no room for both, and the others have it
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o750); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return errors.Join(atomicfile.SyncDir(filepath.Dir(from)), atomicfile.SyncDir(filepath.Dir(to)))
}

// aside are the streams of which a copy was put aside.
func (s *store) aside() (streams []string) {
	entries, _ := os.ReadDir(s.path(asideDir)) // mostly it is not there
	for _, e := range entries {
		streams = append(streams, e.Name())
	}
	return streams
}

// discard removes the copy that was put aside.
func (s *store) discard(stream string) error {
	if stream == "" || stream != filepath.Base(stream) {
		return fmt.Errorf("%q is not a stream", stream)
	}
	return os.RemoveAll(s.path(filepath.Join(asideDir, stream)))
}
