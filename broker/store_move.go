package broker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/omflow-booster/omflow-booster/internal/atomicfile"
)

// What a move between stores (grow.go, shrink.go) writes down, and where it puts the stores.
const (
	growthTaken     = "snapshot taken"
	growthRestoring = "restoring"

	growthDir  = "growth"               // the snapshot
	storeAside = "jetstream.standalone" // the old store, until the new one is checked
)

const (
	shrinkTaken     = "snapshot taken"
	shrinkRestoring = "restoring"

	memberAside = "jetstream.cluster" // the store of the member, until the new one is checked
)

func (s *store) path(name string) string { return filepath.Join(s.dir, name) }

func (s *store) growing() bool { return s.bootState().Growth != "" }

// moving tells whether the streams are on their way from one store into another.
func (s *store) moving() bool { return s.growing() || s.bootState().Shrink != "" }

// brings tells whether there is a snapshot to restore. One that cannot be looked at is one: opening it says why.
func (s *store) brings() bool {
	there, err := s.has(growthDir)
	return s.growing() && (there || err != nil)
}

// has tells whether something is in the data directory. What cannot be looked at is not absent: absence ends in a removal.
func (s *store) has(name string) (bool, error) {
	_, err := os.Stat(s.path(name))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// advance writes the next step of the growth down.
func (s *store) advance(mode, growth string) error {
	return s.change(func(m *bootState) { m.Mode, m.Growth, m.Restored = mode, growth, nil })
}

// restored writes down that a stream is in the cluster and checked. Workers use it at once, so it must not be brought there again.
func (s *store) restored(stream string) error {
	return s.change(func(m *bootState) { m.Restored = append(m.Restored, stream) })
}

// setAside moves the old store out of the server's way. It may be called again.
func (s *store) setAside(aside string) error {
	if there, err := s.has(storeName); err != nil || !there {
		return err
	}
	if err := os.Rename(s.path(storeName), s.path(aside)); err != nil {
		return err
	}
	return atomicfile.SyncDir(s.dir)
}

// abandonGrowth puts the store of a single Booster back, because HA_BOOSTER_IP is not set any more before the growth was complete.
func (s *store) abandonGrowth() error {
	member, err := s.has(memberAside)
	if err != nil {
		return err
	}
	if member { // it was about to be a member of a new cluster, see bringAlong
		return s.change(func(m *bootState) { m.Mode, m.Growth, m.Shrink = modeCluster, "", shrinkTaken })
	}
	old, err := s.has(storeAside)
	if err != nil {
		return err
	}
	if old {
		if err := os.RemoveAll(s.path(storeName)); err != nil { // half a copy of it
			return err
		}
		if err := os.Rename(s.path(storeAside), s.path(storeName)); err != nil {
			return err
		}
		if err := atomicfile.SyncDir(s.dir); err != nil {
			return err
		}
	}
	if err := s.advance(modeStandalone, ""); err != nil {
		return err
	}
	return os.RemoveAll(s.path(growthDir))
}

// forgetOld removes the snapshot and the store that it was taken from.
func (s *store) forgetOld() error {
	return errors.Join(os.RemoveAll(s.path(storeAside)), os.RemoveAll(s.path(memberAside)), os.RemoveAll(s.path(growthDir)))
}

// shrink brings the store of a member to where a single server can be started. It may be called again.
func (s *store) shrink() error {
	if s.bootState().Shrink == "" {
		return nil
	}
	if err := s.setMemberAside(); err != nil {
		return fmt.Errorf("go on alone: %w", err)
	}
	return s.change(func(m *bootState) { m.Mode, m.Shrink = modeStandalone, shrinkRestoring })
}

// bringAlong is shrink for a Booster that was given another one to be with in the meantime.
func (s *store) bringAlong() error {
	if err := s.setMemberAside(); err != nil {
		return fmt.Errorf("bring the queue into a new cluster: %w", err)
	}
	return s.change(func(m *bootState) { m.Mode, m.Shrink, m.Growth, m.Restored = modeCluster, "", growthRestoring, nil })
}

// setMemberAside moves the store of the member out of the way, or removes what was made since.
func (s *store) setMemberAside() error {
	there, err := s.has(memberAside)
	if err != nil {
		return err
	}
	if !there {
		return s.setAside(memberAside)
	}
	if err := os.RemoveAll(s.path(storeName)); err != nil {
		return err
	}
	return atomicfile.SyncDir(s.dir)
}
