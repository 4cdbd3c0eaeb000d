package broker

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/shirou/gopsutil/v4/disk"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/document"
)

// Modes of a store. A store that one mode wrote is never opened in another: the server would take its streams for orphans and
// delete them.
const (
	modeStandalone = bus.ModeStandalone
	modeCluster    = bus.ModeCluster
	modeWitness    = "witness"
)

const (
	bootStateName = "booster.json" // beside the store: who wrote it and how
	lockName      = "booster.lock"
	pidName       = "booster.pid" // process id of who holds the lock
	storeName     = "jetstream"   // the server's own directory

	mib        = 1 << 20
	minStoreMB = 256
	maxStoreMB = 20_000    // unless BOOSTER_STORE_MB says more: the truth is in SQL, so the queue need not keep months
	minFree    = 512 * mib // start only with this much free: a store on a full disk stops in the middle of a write
	freeShare  = 4.0 / 5.0 // of the free space that auto takes
)

// store is the data directory while this process holds it.
type store struct {
	dir  string
	book *document.Document[bootState] // booster.json
	lock *flock.Flock
}

// bootState is booster.json.
type bootState struct {
	Format  int    `json:"format"` // of this file and the directory's layout
	Mode    string `json:"mode"`
	Machine string `json:"machine,omitempty"` // identity of the machine that the directory was made on
	Growth  string `json:"growth,omitempty"`  // how far growing from one Booster to two is, see grow.go
	// Restored are the streams that a growth has brought into the cluster: from then on they are in use.
	Restored []string  `json:"restored,omitempty"`
	Shrink   string    `json:"alone,omitempty"`   // how far going on alone is, see shrink.go
	Left     string    `json:"left,omitempty"`    // this Booster has left its cluster: when, and for whom
	Witness  string    `json:"witness,omitempty"` // address of the witness that was known last
	Name     string    `json:"name"`              // of this Booster on the bus; generated once, because peers are known by it
	Created  time.Time `json:"created"`
}

const bootStateFormat = 1

// bootState is what booster.json says.
func (s *store) bootState() bootState { return s.book.Get() }

// change changes booster.json.
func (s *store) change(how func(m *bootState)) error { return s.book.Change(how) }

func (s *store) refuse(why string) error {
	return &config.Error{
		Var: "BOOSTER_DATA_DIR", Problem: fmt.Sprintf("data directory %s is left untouched: %s", s.dir, why),
		Fix: "choose an empty directory, or move this one away",
	}
}

func (s *store) close() {
	_ = os.Remove(filepath.Join(s.dir, pidName))
	_ = s.lock.Unlock()
}

// budget is how much the store may hold: what was asked for, or a share of the space that is free or used by the store already.
// It fails when the disk is nearly full.
func (s *store) budget(askedMB int64, freeSpace func(dir string) (int64, error)) (int64, error) {
	free, err := freeSpace(s.dir)
	if err != nil {
		return 0, fmt.Errorf("read free space of %s: %w", s.dir, err)
	}
	if free < minFree {
		return 0, fmt.Errorf("BOOSTER_DATA_DIR: disk of %s is nearly full: %d MB free, %d MB needed; free some space or choose another disk",
			s.dir, free/mib, minFree/mib)
	}
	room := free + size(filepath.Join(s.dir, storeName))
	if askedMB > 0 {
		if asked := askedMB * mib; asked <= room {
			return asked, nil
		}
		return 0, &config.Error{
			Var: "BOOSTER_STORE_MB", Problem: fmt.Sprintf("%d MB asked for, but %s has room for %d MB", askedMB, s.dir, room/mib),
			Fix: "ask for less, or set 0",
		}
	}
	return max(minStoreMB*mib, min(maxStoreMB*mib, int64(float64(room)*freeShare))) / mib * mib, nil
}

// freeSpace is how many bytes this user may still write to the file system of dir.
func freeSpace(dir string) (int64, error) {
	usage, err := disk.Usage(dir)
	if err != nil {
		return 0, err
	}
	return int64(min(usage.Free, 1<<62)), nil
}

// size adds up the files below dir.
func size(dir string) (total int64) {
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil {
				total += info.Size()
			}
		}
		return nil // what cannot be read does not count
	})
	return total
}
