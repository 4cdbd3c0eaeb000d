package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/omflow-booster/omflow-booster/internal/atomicfile"
	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/snapshot"
)

// Growing from one Booster to two. A server that opens a store of a single one as a member of a cluster would delete every
// stream in it, so the streams travel through a snapshot. Each step is written down in booster.json before the next begins;
// whatever ends it in the middle, the next start goes on from there, and until the last step the old store is whole.
//
//	alone ──snapshot──▶ taken ──old store set aside, mode=cluster──▶ restoring ──other Booster there, streams
//	  ▲                   │                                              │        restored and checked──▶ "" (old store removed)
//	  └── HA_BOOSTER_IP unset again: old store put back ◀────────────────┘
const (
	growthTaken     = "snapshot taken"
	growthRestoring = "restoring"

	growthDir  = "growth"               // the snapshot
	storeAside = "jetstream.standalone" // the old store, until the new one is checked
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

// grow is what a Booster of a cluster does before its server starts. What has never been used needs no restore.
func (m *move) grow(ctx context.Context) error {
	if err := m.prepareGrowth(ctx); err != nil {
		return err
	}
	m.growing.Store(m.store.growing())
	if m.store.growing() && !m.store.brings() {
		return m.grown()
	}
	return nil
}

// prepareGrowth brings the store of a single Booster to where its server can be started as a member of a cluster.
func (m *move) prepareGrowth(ctx context.Context) error {
	s := m.store
	if s.bootState().Shrink != "" { // told to go on alone, and there is another Booster now
		return s.bringAlong()
	}
	if s.bootState().Mode == modeCluster {
		return nil
	}
	if s.bootState().Growth != growthTaken {
		if err := m.takeSingle(ctx); err != nil {
			return fmt.Errorf("grow to two Boosters: %w; the queue is untouched", err)
		}
		if err := m.reach("snapshot taken"); err != nil {
			return err
		}
		if err := s.advance(modeStandalone, growthTaken); err != nil {
			return err
		}
	}
	if err := m.reach("growth noted"); err != nil {
		return err
	}
	if err := s.setAside(storeAside); err != nil {
		return fmt.Errorf("grow to two Boosters: %w", err)
	}
	if err := m.reach("store set aside"); err != nil {
		return err
	}
	return s.advance(modeCluster, growthRestoring)
}

// takeSingle starts the old store for nobody but us, and takes a snapshot of it.
func (m *move) takeSingle(ctx context.Context) error {
	dir := m.store.path(growthDir)
	if err := os.RemoveAll(dir); err != nil { // of an attempt that ended in the middle
		return err
	}
	entries, err := os.ReadDir(m.store.path(storeName))
	switch {
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return err
	case len(entries) == 0:
		return nil // nothing to bring: it never served
	}
	m.log.Info().Msg("growing from one Booster to two: taking a snapshot")
	single, err := m.startHidden(ctx, Sync{Interval: singleSync})
	if err != nil {
		return err
	}
	defer single.stop()
	taken, err := snapshot.Take(ctx, single.js, dir, snapshot.TakeOptions{Progress: m.progress("snapshot")})
	if err != nil {
		return err
	}
	messages, bytes := taken.Totals()
	m.log.Info().Uint64("messages", messages).Uint64("bytes", bytes).Int("streams", len(taken.Streams)).Msg("snapshot taken")
	if !worthBringing(taken) {
		return os.RemoveAll(dir)
	}
	return nil
}

// worthBringing tells a queue from the store of a Booster that was started and never used.
func worthBringing(m snapshot.Manifest) bool {
	for _, s := range m.Streams {
		if s.Name != bus.BucketStream(bus.BucketControl) && s.Messages > 0 {
			return true
		}
	}
	return false
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
