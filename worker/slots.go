package worker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/omflow-booster/omflow-booster/internal/work"
)

// runSteps runs steps until ctx ends; then it waits for the running ones, and for the ends of all.
func (w *Worker) runSteps(ctx, base context.Context, queue *queue, fatal chan<- error) error {
	confirms, unsubscribe, err := newConfirms(w.client.NC, queue)
	if err != nil {
		return err
	}
	defer unsubscribe()
	hard, endSteps := context.WithCancel(base)
	defer endSteps()
	until, stop := context.WithCancel(base) // outlives the ends
	var helpers sync.WaitGroup
	defer helpers.Wait()
	defer stop()
	helpers.Go(func() { queue.run(until) })
	helpers.Go(func() {
		if err := w.keepBound(until); err != nil {
			fatal <- err
		}
	})
	leases := newKeeper(confirms, queue)
	helpers.Go(func() { leases.run(until, hard) })
	ends := newFinisher(ctx, confirms, leases, w.store, w.log)
	helpers.Go(func() { ends.run(until) })

	ds := &deliveries{
		link:     link{nc: w.client.NC, js: w.client.JS, queue: queue, rows: w.store, leases: leases, ends: ends, hard: hard},
		policy:   policy{w.cfg.Executor == "http", w.cfg.StepTimeout, w.cfg.MaxAttempts, w.cfg.RetryBase},
		tally:    tally{worker: w.cfg.Name, record: w.history.add, counts: &w.counts},
		executor: w.executor, submit: w.publisher.Submit, publish: w.publisher.publish,
		finish: func(ctx context.Context, id work.ID, redelivered bool) error {
			_, err := w.finished.Do(ctx, finished{id, redelivered})
			return err
		},
		database: w.identity.Load().ID, soft: ctx, log: w.log,
	}
	var pulling atomic.Pointer[context.Context] // ends with a cordon, too
	ds.mayBegin = func() bool { p := pulling.Load(); return p != nil && (*p).Err() == nil && !w.unusable.Load() }
	p := newPuller(w.client.NC, w.cfg.Slots, queue.leaseTime)
	p.check, p.usable, p.log = ds.look, w.isUsable, w.log
	p.open = func(msg *nats.Msg, asked time.Time) (*delivery, bool) {
		d, err := ds.open(msg, asked)
		if err != nil {
			helpers.Go(func() { ds.reject(msg, err) })
		}
		return d, err == nil
	}
	go p.serve(ds.handle) // not waited for: a step that does not end must not keep the worker from its end
	defer p.shelf.close()

	w.log.Info().Int("slots", w.cfg.Slots).Str("executor", w.cfg.Executor).Dur("lease", queue.leaseTime()).Str("socket",
		w.cfg.Socket).Msg("worker ready")
	close(w.ready)
	w.pullUncordoned(ctx, func(ctx context.Context) {
		pulling.Store(&ctx)
		p.run(ctx)
	})

	stopping, cancel := context.WithTimeout(base, w.cfg.StopTimeout)
	defer cancel()
	w.log.Info().Int64("running", w.counts.running.Load()).Msg("stopping: waiting for running steps")
	if !p.shelf.idle(stopping) || !ends.idle(stopping) {
		w.log.Warn().Int64("running", w.counts.running.Load()).Msg("steps did not finish in time; ending them")
		endSteps()
		last, cancel := context.WithTimeout(base, 3*ackTimeout)
		defer cancel()
		_ = p.shelf.idle(last) && ends.idle(last)
	}
	return nil
}
