//go:build linux

package test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest/fleet"
)

const (
	watchEvery = 50 * time.Millisecond
	watchLimit = 500 * time.Millisecond // of one question
)

// watch looks at two Boosters from beside each, whatever they know of each other: who believes to be active when, and which writes each
// accepts.
type watch struct {
	names  []string
	probes map[string]*omflowtest.Probe // by name of the Booster that they are connected to
	every  time.Duration                // between two writes to a Booster
	end    context.CancelFunc
	over   sync.WaitGroup

	mu      sync.Mutex
	beliefs map[string][]fleet.Span // when it believed to be active, by name of the Booster
}

// watchPair starts to watch, and to write to each Booster, that often, through a client that knows no other.
func watchPair(t testing.TB, p *pair, every time.Duration) *watch {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{probes: map[string]*omflowtest.Probe{}, beliefs: map[string][]fleet.Span{}, every: every, end: cancel}
	t.Cleanup(func() { w.end(); w.over.Wait() })
	for _, b := range p.boosters {
		client, err := bus.Connect(b.only(), "watch", zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(client.Close)
		w.names = append(w.names, b.name)
		probe := omflowtest.NewProbe(client)
		w.probes[b.name] = probe
		w.over.Go(func() { probe.Run(ctx) })
		probe.Pace(every)
		w.over.Go(func() { w.look(ctx, b.name, client.NC) })
	}
	for _, b := range p.boosters {
		p.await("the first write at "+b.name, func(context.Context) error { return w.written(b, time.Time{}) })
	}
	return w
}

// look asks one Booster for its state, which it answers itself.
func (w *watch) look(ctx context.Context, name string, nc *nats.Conn) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		asked := time.Now()
		limited, cancel := context.WithTimeout(ctx, watchLimit)
		msg, err := nc.RequestWithContext(limited, bus.StateSubject(name), nil)
		cancel()
		var n bus.Node
		w.note(name, asked, err == nil && json.Unmarshal(msg.Data, &n) == nil && n.Booster != nil && n.Booster.Duty == bus.DutyActive)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func (w *watch) note(name string, asked time.Time, believes bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.beliefs[name] = fleet.Extend(w.beliefs[name], asked, time.Now(), believes)
}

// believes is nil while a Booster believes to be active.
func (w *watch) believes(b *booster) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	spans := w.beliefs[b.name]
	if len(spans) == 0 || !spans[len(spans)-1].Open {
		return fmt.Errorf("%s does not believe to be active", b.name)
	}
	return nil
}

// overlap is for how long since a moment both Boosters believed to be active at the same time.
func (w *watch) overlap(since time.Time) (both time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return fleet.Overlap(w.beliefs[w.names[0]], w.beliefs[w.names[1]], since)
}

// written is nil when this Booster has acknowledged a write since a moment.
func (w *watch) written(b *booster, since time.Time) error {
	if p := w.probes[b.name]; !p.AcceptedSince(since) {
		return errors.Join(fmt.Errorf("%s accepts no write", b.name), p.Failure())
	}
	return nil
}

// gap is for how long at most, since a moment, no client of either Booster had a write accepted: the shorter of the two.
func (w *watch) gap(since time.Time) time.Duration {
	return min(w.probes[w.names[0]].Gap(since), w.probes[w.names[1]].Gap(since))
}

// stop ends the watch and returns the subjects of all acknowledged writes by their places in WORK.
func (w *watch) stop() (map[uint64]string, error) {
	w.end()
	w.over.Wait()
	var errs []error
	all := map[uint64]string{}
	for name, p := range w.probes {
		accepted, err := p.Accepted()
		errs = append(errs, err)
		for seq, subject := range accepted {
			if other, known := all[seq]; known {
				errs = append(errs, fmt.Errorf("%s and %s (at %s) were both acknowledged as message %d", other, subject, name, seq))
			}
			all[seq] = subject
		}
	}
	return all, errors.Join(errs...)
}
