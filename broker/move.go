package broker

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/snapshot"
)

// move brings the queue of a Booster from the store of a single one into that of a member (grow.go), or back (shrink.go).
type move struct {
	store        *store
	startTimeout time.Duration
	log          zerolog.Logger
	growing      atomic.Bool              // this Booster brings the queue of its single life into the cluster
	interrupt    func(point string) error // ends the move at a point; for tests
}

func newMove(s *store, startTimeout time.Duration, log zerolog.Logger, interrupt func(point string) error) *move {
	return &move{store: s, startTimeout: startTimeout, log: log, interrupt: interrupt}
}

// startHidden starts a single server on the store, for nobody but this process.
func (m *move) startHidden(ctx context.Context, sync Sync) (*node, error) {
	opts := nodeOptions(m.store.bootState().Name, m.store.dir, sync)
	opts.Host, opts.Port = "127.0.0.1", -1
	starting, cancel := context.WithTimeout(ctx, m.startTimeout)
	defer cancel()
	return startNode(starting, opts, m.log)
}

// grown forgets the single life. The old store goes last: until then the note in booster.json says that it is not needed any more.
func (m *move) grown() error {
	if err := m.store.advance(modeCluster, ""); err != nil {
		return err
	}
	m.log.Info().Msg("grown from one Booster to two")
	if err := m.store.forgetOld(); err != nil {
		return err
	}
	m.growing.Store(false)
	return nil
}

// progress logs how far a long transfer is, every few seconds.
func (m *move) progress(what string) func(snapshot.Progress) {
	said := time.Now()
	return func(p snapshot.Progress) {
		if time.Since(said) > 5*time.Second {
			said = time.Now()
			m.log.Info().Str("stream", p.Stream).Int("of", p.Streams).Int("stream_no", p.Index).Int64("bytes", p.Done).Int64("total", p.Total).
				Msg(what)
		}
	}
}

// reach marks a point at which a test ends the growth.
func (m *move) reach(point string) error {
	if m.interrupt == nil {
		return nil
	}
	return m.interrupt(point)
}
