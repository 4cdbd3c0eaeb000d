// Package worker runs beside every OMFLOW Server. It takes the steps that the server queues and brings them to the Booster, and it
// pulls steps from the Booster and runs them.
//
//	OMFLOW Server ─▶ api (Unix socket) ─▶ publisher ─▶ WORK ─▶ puller ─▶ deliveries ─▶ Executor ─▶ effect
//	                                          ▲                              │
//	      omflow_queuedata, outbox ─▶ reconciler (in one worker)            └─▶ history
//
// DESIGN.md beside this file says why it is made so.
package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/buildinfo"
	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/uploads"
	"github.com/omflow-booster/omflow-booster/internal/work"
	"github.com/omflow-booster/omflow-booster/worker/batch"
	"github.com/omflow-booster/omflow-booster/worker/outbox"
)

// Worker is one worker process. Make it with New, run it once with Run.
type Worker struct {
	cfg      Config
	client   *bus.Client
	store    *outbox.Store
	executor Executor
	log      zerolog.Logger
	started  time.Time
	ready    chan struct{}

	counts     counters
	publisher  *publisher
	finished   *batch.Batcher[finished, struct{}]
	history    *history
	reconciles atomic.Bool
	database   atomic.Pointer[string] // ok, or what is wrong with it
	unusable   atomic.Bool            // steps cannot be looked up in it: none are pulled
	identity   atomic.Pointer[bus.Database]
	news       chan struct{}   // have a heartbeat written now
	shown      bool            // the heartbeat says which database it is
	uploads    *uploads.Keeper // nil: nobody has said where they are
}

// counters are what the heartbeat reports.
type counters struct {
	running, done, inHand, failed, dead, redelivered, skipped atomic.Int64
}

// finished is a step whose row is to go.
type finished struct {
	id          work.ID
	redelivered bool
}

// New makes a worker from parts that are open already. It touches nothing.
func New(cfg Config, client *bus.Client, store *outbox.Store, executor Executor, log zerolog.Logger) *Worker {
	if cfg.Name == "" {
		host, _ := os.Hostname()
		cfg.Name = fmt.Sprintf("%s-%d", host, os.Getpid())
	}
	if cfg.Server == "" {
		cfg.Server = os.Getenv("OMFLOW_AGENT")
	}
	w := &Worker{
		cfg: cfg, client: client, store: store, executor: executor, started: time.Now(), ready: make(chan struct{}), news: make(chan struct{}, 1),
		log: log.With().Str("node", cfg.Name).Logger(),
	}
	if cfg.Uploads != "" {
		w.uploads = uploads.NewKeeper(cfg.Uploads)
	}
	w.history = newHistory(store.Record, w.log)
	w.finished = batch.New(outboxBatch, w.finishBatch)
	w.publisher = &publisher{
		nc: client.NC, js: client.JS, inserts: batch.New(outboxBatch, insertCalls(store.Insert, store.IsBadInput)),
		remove: func(ctx context.Context, ids []work.ID) error { return store.Finish(ctx, ids, false) }, load: store.Load,
	}
	return w
}

// outboxBatch is how many calls share one round trip to the database.
const outboxBatch = 200

// Ready is closed when the worker takes work from the server beside it and from the Booster.
func (w *Worker) Ready() <-chan struct{} { return w.ready }

// Run works until ctx ends and then stops in order:
//
//  1. no new steps are pulled; what arrives all the same is given back;
//  2. running steps may finish, for WORKER_STOP_TIMEOUT; then they are ended and given back;
//  3. the local API, the reconciler and the executor stop: running steps needed them until now;
//  4. rows of finished steps and the history are written out.
func (w *Worker) Run(ctx context.Context) error {
	api := &api{
		socket: w.cfg.Socket, take: w.publisher.take,
		status: func() any { return w.describe() }, connected: w.client.NC.IsConnected,
		accepts: func() bool { return w.publisher.usable() == nil },
	}
	if err := api.listen(ctx); err != nil {
		return err
	}
	base, stopBase := context.WithCancelCause(context.WithoutCancel(ctx)) // outlives the running steps
	defer stopBase(nil)
	writers, stopWriters := context.WithCancel(context.WithoutCancel(ctx)) // outlives everything else
	defer stopWriters()

	var services, sinks sync.WaitGroup
	sinks.Go(func() { w.finished.Run(writers, 2) })
	sinks.Go(func() { w.publisher.inserts.Run(writers, 2) })
	sinks.Go(func() { w.history.run(writers) })
	fatal := make(chan error, 4) // one for each that may fail
	services.Go(func() {
		if err := api.serve(base); err != nil {
			fatal <- err
		}
	})
	services.Go(func() {
		if err := w.executor.Run(base); err != nil {
			fatal <- err
		}
	})
	services.Go(func() {
		if err := bus.Heartbeat(base, w.client.JS, w.log, w.news, w.describe); err != nil {
			fatal <- &config.Error{
				Var: "WORKER_NAME", Problem: err.Error(),
				Fix: "give this one another name; a copied machine also needs an empty AGENT_DATA_DIR",
			}
		}
	})
	services.Go(func() { w.watchDatabase(base) })
	if w.uploads != nil {
		services.Go(func() { w.uploads.Run(base) })
	}

	pulling, stopPulling := context.WithCancel(ctx)
	defer stopPulling()
	steps := make(chan error, 1)
	go func() { steps <- w.pull(pulling, base, fatal) }()

	var err error
	select {
	case err = <-steps: // a requested stop, or the queue cannot be used
	case err = <-fatal:
		stopPulling()
		err = errors.Join(err, <-steps)
	}
	stopBase(nil)
	services.Wait()
	stopWriters()
	sinks.Wait()
	w.log.Info().Int64("done", w.counts.done.Load()).Msg("worker stopped")
	return err
}

// pull connects to the queue and runs steps until ctx ends; then it waits for the running ones.
func (w *Worker) pull(ctx, base context.Context, fatal chan<- error) error {
	if err := w.client.WaitReady(ctx); err != nil {
		return nil // stopped while waiting for a Booster
	}
	if err := w.bind(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	if !w.usable(ctx) {
		return nil // stopped while waiting for the table of the OMFLOW Server
	}
	queue, err := openQueue(ctx, w.client.NC, w.client.JS, w.log)
	if err != nil {
		return err
	}
	stopService, err := w.serve()
	if err != nil {
		return err
	}
	defer stopService()
	select {
	case <-w.executor.Ready():
	case <-ctx.Done():
		return nil
	}

	reconciling := make(chan struct{})
	go func() {
		defer close(reconciling)
		w.reconcile(ctx)
	}()
	defer func() { <-reconciling }()

	return w.runSteps(ctx, base, queue, fatal)
}

// reconcile runs the reconciler whenever this worker holds its lock.
func (w *Worker) reconcile(ctx context.Context) {
	r := &reconciler{
		js: w.client.JS, store: w.store, publish: w.publisher.publish, every: w.cfg.Reconcile,
		pruning: pruning{keep: time.Duration(w.cfg.HistoryDays) * 24 * time.Hour}, worker: w.cfg.Name, database: w.identity.Load().ID, log: w.log,
	}
	lock := bus.Lock{JS: w.client.JS, Name: bus.LockReconciler, Holder: w.cfg.Name, TTL: reconcilerTTL}
	_ = lock.Run(ctx, func(ctx context.Context) error {
		w.log.Info().Msg("this worker looks for rows without a message")
		w.reconciles.Store(true)
		defer w.reconciles.Store(false)
		r.run(ctx)
		return nil
	}) // run returns nothing, so neither does the lock
}

// finishBatch removes the rows of finished steps together.
func (w *Worker) finishBatch(ctx context.Context, steps []finished) ([]struct{}, error) {
	ids, redelivered := make([]work.ID, len(steps)), false
	for i, f := range steps {
		ids[i] = f.id
		redelivered = redelivered || f.redelivered
	}
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	err := w.store.Finish(ctx, ids, redelivered)
	if w.store.IsBadInput(err) {
		err = fmt.Errorf("%w: %w", batch.ErrBadInput, err)
	}
	return make([]struct{}, len(steps)), err
}

// describe is the worker's heartbeat.
func (w *Worker) describe() bus.Node {
	host, _ := os.Hostname()
	database := databaseOK // it answered when the worker was made
	if s := w.database.Load(); s != nil {
		database = *s
	}
	var identity bus.Database
	if id := w.identity.Load(); id != nil {
		identity = *id
	}
	return bus.Node{
		Role: bus.ServiceWorker, Name: w.cfg.Name, Host: host, PID: os.Getpid(), Version: buildinfo.Version(), Started: w.started,
		At: time.Now(),
		Worker: &bus.WorkerState{
			Server: w.cfg.Server, Executor: w.cfg.Executor, Slots: w.cfg.Slots, Running: int(w.counts.running.Load()),
			WorkerCounts: bus.WorkerCounts{
				Done: w.counts.done.Load(), InHand: w.counts.inHand.Load(), Failed: w.counts.failed.Load(), Dead: w.counts.dead.Load(),
				Redelivered: w.counts.redelivered.Load(), Skipped: w.counts.skipped.Load(),
			},
			WorkerDatabase: bus.WorkerDatabase{Database: database, DatabaseID: identity.ID, Place: identity.Place},
			Reconciler:     w.reconciles.Load(), Uploads: w.uploads.State(),
		},
	}
}
