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
	"github.com/shirou/gopsutil/v4/host"

	"github.com/omflow-booster/omflow-booster/internal/atomicfile"
	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/document"
)

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

// machineID tells machines apart; empty where the system does not say.
func machineID(ctx context.Context) string {
	id, err := host.HostIDWithContext(ctx)
	if err != nil {
		return ""
	}
	return id
}

// holder says who holds the lock, if that is noted.
func (s *store) holder() string {
	data, err := os.ReadFile(filepath.Join(s.dir, pidName))
	if err != nil || len(data) == 0 {
		return ""
	}
	return fmt.Sprintf(" (process %s)", strings.TrimSpace(string(data)))
}
