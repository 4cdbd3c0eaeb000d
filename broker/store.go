package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/host"

	"github.com/omflow-booster/omflow-booster/internal/atomicfile"
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

// openStore takes the data directory for this process, or says in one line why it cannot.
func openStore(ctx context.Context, dir, name, mode string) (*store, error) {
	wrong := func(problem, fix string) error {
		return &config.Error{Var: "BOOSTER_DATA_DIR", Problem: problem, Fix: fix}
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, wrong("cannot make the data directory: "+err.Error(), "make it writable for this user or choose another")
	}
	s := &store{dir: dir, lock: flock.New(filepath.Join(dir, lockName))}
	locked, err := s.lock.TryLock()
	if err != nil {
		return nil, wrong(fmt.Sprintf("data directory %s is not writable: %s", dir, err), "make it writable for this user or choose another")
	}
	if !locked {
		return nil, wrong(fmt.Sprintf("data directory %s is in use by another Booster%s", dir, s.holder()),
			"stop that one or choose another directory")
	}
	if err := s.open(name, mode, machineID(ctx)); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *store) open(name, mode, machine string) error {
	// The file tests that the directory takes writes, and is a note for the operator who finds it locked. The lock file itself cannot be
	// written on Windows, nor read by others.
	if err := atomicfile.Write(filepath.Join(s.dir, pidName), fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600); err != nil {
		return &config.Error{
			Var: "BOOSTER_DATA_DIR", Problem: fmt.Sprintf("data directory %s is not writable: %s", s.dir, err),
			Fix: "make it writable or choose another",
		}
	}
	var err error
	var unreadable *fs.PathError
	switch s.book, err = document.Open[bootState](filepath.Join(s.dir, bootStateName)); {
	case errors.As(err, &unreadable):
		return err
	case err != nil:
		return s.refuse(fmt.Sprintf("%s is damaged (%s)", bootStateName, err))
	}
	switch m := s.bootState(); {
	case !s.book.Saved():
		return s.create(name, mode, machine)
	case m.Format > bootStateFormat:
		return s.refuse(fmt.Sprintf("it was written by a newer omflow-booster (format %d, this one knows %d)", m.Format, bootStateFormat))
	case machine != "" && m.Machine != "" && machine != m.Machine && name != m.Name:
		return &config.Error{
			Var: "BOOSTER_DATA_DIR", Problem: fmt.Sprintf("data directory %s was made on another machine: two Boosters named %q would fight",
				s.dir, m.Name),
			Fix: "use an empty directory; or, if that machine is gone for good, confirm with BOOSTER_NAME=" + m.Name,
		}
	case name != "" && name != m.Name:
		return &config.Error{
			Var: "BOOSTER_NAME", Problem: fmt.Sprintf("%q, but the data directory belongs to %q", name, m.Name),
			Fix: "unset it, or use another data directory",
		}
	}
	if s.bootState().Left != "" {
		return s.refuse("this Booster has left its cluster (" + s.bootState().Left + ")")
	}
	return s.fit(mode)
}

// fit makes sure that the store may be opened in a mode.
func (s *store) fit(mode string) error {
	switch {
	case mode == modeStandalone && s.growing():
		return s.abandonGrowth()
	case s.bootState().Mode == mode, s.bootState().Shrink != "": // it was told so, see shrink.go
		return nil
	case s.bootState().Mode == modeStandalone && mode == modeCluster:
		return nil // it grows first, see grow.go
	case mode == modeStandalone:
		return s.refuse(fmt.Sprintf("it was written in mode %q and this Booster runs alone (HA_BOOSTER_IP is not set); `omflow-booster "+
			"cluster shrink` makes one Booster of two",
			s.bootState().Mode))
	default:
		return s.refuse(fmt.Sprintf("it was written in mode %q, and this is a %s", s.bootState().Mode, mode))
	}
}

// create marks an empty directory as ours.
func (s *store) create(name, mode, machine string) error {
	if entries, err := os.ReadDir(filepath.Join(s.dir, storeName)); err == nil && len(entries) > 0 {
		return s.refuse("it holds a JetStream store without " + bootStateName + ": another program wrote it")
	}
	if name == "" {
		machine, err := os.Hostname()
		if err != nil {
			machine = "booster"
		}
		name = strings.Join(strings.Fields(strings.ToLower(machine)), "-") + "-" + strings.ToLower(rand.Text()[:6]) // no blanks, says the server
	}
	made := bootState{Format: bootStateFormat, Mode: mode, Machine: machine, Name: name, Created: time.Now().UTC().Truncate(time.Second)}
	if err := s.change(func(m *bootState) { *m = made }); err != nil {
		return &config.Error{Var: "BOOSTER_DATA_DIR", Problem: err.Error(), Fix: "make the directory writable or choose another"}
	}
	return nil
}

// bootState is what booster.json says.
func (s *store) bootState() bootState { return s.book.Get() }

// change changes booster.json.
func (s *store) change(how func(m *bootState)) error { return s.book.Change(how) }

// machineID tells machines apart; empty where the system does not say.
func machineID(ctx context.Context) string {
	id, err := host.HostIDWithContext(ctx)
	if err != nil {
		return ""
	}
	return id
}

func (s *store) refuse(why string) error {
	return &config.Error{
		Var: "BOOSTER_DATA_DIR", Problem: fmt.Sprintf("data directory %s is left untouched: %s", s.dir, why),
		Fix: "choose an empty directory, or move this one away",
	}
}

// holder says who holds the lock, if that is noted.
func (s *store) holder() string {
	data, err := os.ReadFile(filepath.Join(s.dir, pidName))
	if err != nil || len(data) == 0 {
		return ""
	}
	return fmt.Sprintf(" (process %s)", strings.TrimSpace(string(data)))
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
