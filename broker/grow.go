package broker

import (
	"context"
	"errors"
	"fmt"
	"os"

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
