package broker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/omflow-booster/omflow-booster/broker/audit"
	"github.com/omflow-booster/omflow-booster/internal/atomicfile"
	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// A copy that differs is put aside before the server starts, and the server fetches the stream anew from its leader. So is the
// log of the stream's group: the snapshot in it says of what was missing that it is not needed. Term and vote stay, so the
// member votes no second time in one election. And Raft keeps the member from leading: nobody elects one whose log is shorter
// than his own.
const asideDir = "damaged" // in the data directory: copies that differed, until the new ones are found equal

// putAside moves the copy of a stream, and the log of its group, out of the server's way.
func (s *store) putAside(r audit.Rebuild) error {
	server := s.path(storeName)
	aside := s.path(filepath.Join(asideDir, r.Stream))
	copied := filepath.Join(server, "$G", "streams", r.Stream)
	log := filepath.Join(server, bus.SystemAccount, "_js_", r.Group)
	keep := true
	if free, err := freeSpace(s.dir); err == nil && free < size(copied)+minFree {
		keep = false // no room for both, and the others have it
	}
	err := errors.Join(os.RemoveAll(aside), os.MkdirAll(aside, 0o750)) // of an earlier time
	for from, to := range map[string]string{
		copied: "stream", filepath.Join(log, "msgs"): "log",
		filepath.Join(log, "snapshots"): "snapshots",
	} {
		switch {
		case err != nil:
		case keep:
			err = os.Rename(from, filepath.Join(aside, to))
		default:
			err = os.RemoveAll(from)
		}
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	}
	if err == nil {
		err = errors.Join(atomicfile.SyncDir(filepath.Dir(copied)), atomicfile.SyncDir(log), atomicfile.SyncDir(aside))
	}
	if err != nil {
		return fmt.Errorf("put the damaged copy of %s aside: %w", r.Stream, err)
	}
	return nil
}

// Aside are the streams of which a copy was put aside.
func (s *store) Aside() (streams []string) {
	entries, _ := os.ReadDir(s.path(asideDir)) // mostly it is not there
	for _, e := range entries {
		streams = append(streams, e.Name())
	}
	return streams
}

// Discard removes the copy that was put aside.
func (s *store) Discard(stream string) error {
	if stream == "" || stream != filepath.Base(stream) {
		return fmt.Errorf("%q is not a stream", stream)
	}
	return os.RemoveAll(s.path(filepath.Join(asideDir, stream)))
}
