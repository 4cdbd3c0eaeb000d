package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// settings of a run.
type settings struct {
	steps   int
	seconds int // of the steady rate
	limit   time.Duration
}

const (
	submitters = 16
	steadyRate = 200 // steps a second
)

// result is what one peer did in one round.
type result struct {
	Enqueue float64            `json:"enqueue_per_s"` // 16 submitters, none runs
	Drain   float64            `json:"drain_per_s"`
	Both    float64            `json:"both_per_s"` // submitted and run at the same time, until all is over
	P50     float64            `json:"p50_ms"`     // from submit to handler, at 200 steps a second
	P99     float64            `json:"p99_ms"`
	Servers float64            `json:"cpu_servers"` // processor seconds for 1,000 steps, while both
	Client  float64            `json:"cpu_client"`
	Each    map[string]float64 `json:"cpu_each"` // the servers, by name
	Load    float64            `json:"load"`     // average of the last minute, before
	Others  float64            `json:"others"`   // cores that other processes of the machine used, while both
}

// total is the processor time of 1,000 steps.
func (r result) total() float64 { return r.Servers + r.Client }

// each shows what every server used.
func (r result) each() string {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.Each)) {
		fmt.Fprintf(&text, "%s %.2f, ", name, r.Each[name])
	}
	return text.String()
}

// measurement is one peer in one round.
type measurement struct {
	queue     queue
	submitted int
	counted   atomic.Int64

	mu    sync.Mutex
	first time.Time         // step handled since it was reset
	begun map[int]time.Time // when a step of the steady rate was submitted
	took  []time.Duration   // until its handler was called
}

func measure(ctx context.Context, s *site, p peer, cfg settings) (r result, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.limit, fmt.Errorf("%s took longer than %s (--limit)", p.name, cfg.limit))
	defer cancel()
	r.Load = loadAverage()
	runtime.GC() // what the peer before has left
	if s.postgres != nil {
		if err := s.postgres.settle(ctx); err != nil {
			return r, err
		}
	}
	m := &measurement{queue: p.make(), begun: map[int]time.Time{}}
	defer m.queue.close()
	if err := m.queue.open(ctx, s, m.handle); err != nil {
		return r, err
	}
	steps := cfg.steps * p.scale
	if r.Enqueue, err = m.enqueue(ctx, steps); err != nil {
		return r, fmt.Errorf("enqueue: %w", err)
	}
	if r.Drain, err = m.drain(ctx, steps); err != nil {
		return r, fmt.Errorf("drain: %w", err)
	}
	if err := m.both(ctx, steps, &r); err != nil {
		return r, fmt.Errorf("both at once: %w", err)
	}
	if err := m.steady(ctx, cfg.seconds*steadyRate, &r); err != nil {
		return r, fmt.Errorf("steady rate: %w", err)
	}
	return r, nil
}

// handle is what every step does.
func (m *measurement) handle(n int) {
	now := time.Now()
	m.counted.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.first.IsZero() {
		m.first = now
	}
	if began, ok := m.begun[n]; ok {
		m.took = append(m.took, now.Sub(began))
		delete(m.begun, n) // should it come again
	}
}

// submitAll submits steps from several goroutines, each after the answer to its last one.
func (m *measurement) submitAll(ctx context.Context, steps int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var all sync.WaitGroup
	for range submitters {
		all.Go(func() {
			for n := next.Add(1); n <= int64(steps) && ctx.Err() == nil; n = next.Add(1) {
				if err := m.queue.submit(ctx, m.submitted+int(n)); err != nil {
					cancel(err)
				}
			}
		})
	}
	all.Wait()
	m.submitted += steps
	return context.Cause(ctx)
}

func (m *measurement) enqueue(ctx context.Context, steps int) (float64, error) {
	began := time.Now()
	err := m.submitAll(ctx, steps)
	return rate(steps, time.Since(began)), err
}

func (m *measurement) drain(ctx context.Context, steps int) (float64, error) {
	began, err := m.queue.begin(ctx)
	if err == nil {
		err = m.over(ctx)
	}
	ended := time.Now()
	if began.IsZero() {
		m.mu.Lock()
		began = m.first
		m.mu.Unlock()
	}
	return rate(steps, ended.Sub(began)), err
}

func (m *measurement) both(ctx context.Context, steps int, r *result) error {
	before, client, machine, began := cpuOf(m.queue.servers()), cpuSelf(), cpuMachine(), time.Now()
	if err := m.submitAll(ctx, steps); err != nil {
		return err
	}
	if err := m.over(ctx); err != nil {
		return err
	}
	took := time.Since(began)
	after := cpuOf(m.queue.servers())
	client, machine = cpuSelf()-client, cpuMachine()-machine
	thousands := float64(steps) / 1000
	r.Both, r.Client, r.Each = rate(steps, took), client.Seconds()/thousands, map[string]float64{}
	others := machine - client
	for name := range after {
		used := after[name] - before[name]
		r.Each[name] = used.Seconds() / thousands
		r.Servers += r.Each[name]
		others -= used
	}
	r.Others = max(0, others.Seconds()/took.Seconds())
	return nil
}

// steady submits at a fixed rate, whether earlier steps are over or not, and looks how long each takes to its handler.
func (m *measurement) steady(ctx context.Context, steps int, r *result) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	tick := time.NewTicker(time.Second / steadyRate)
	defer tick.Stop()
	var all sync.WaitGroup
	for range steps {
		<-tick.C
		m.submitted++
		n := m.submitted
		all.Go(func() {
			m.mu.Lock()
			m.begun[n] = time.Now()
			m.mu.Unlock()
			if err := m.queue.submit(ctx, n); err != nil {
				cancel(err)
			}
		})
	}
	all.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := m.over(ctx); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.took) != steps {
		return errors.New("not every step came to its handler")
	}
	slices.Sort(m.took)
	r.P50, r.P99 = ms(m.took[steps/2]), ms(m.took[steps*99/100])
	return nil
}

// over waits until everything that was submitted is over.
func (m *measurement) over(ctx context.Context) error {
	return until(ctx, fmt.Sprintf("%d steps", m.submitted), func(ctx context.Context) (bool, error) {
		if m.counted.Load() < int64(m.submitted) {
			return false, nil
		}
		return m.queue.finished(ctx, m.submitted)
	})
}

func rate(n int, took time.Duration) float64 { return float64(n) / took.Seconds() }

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
