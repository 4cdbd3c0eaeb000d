package main

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// riverQueue is River with the settings of its own benchmark, in which throughput depends on them: short pauses between two
// fetches, and many workers. All of it but PostgreSQL runs in this process.
type riverQueue struct {
	site   *site
	pool   *pgxpool.Pool
	client *river.Client[pgx.Tx]
	done   atomic.Int64
	cancel func()
}

const (
	riverCooldown = 2 * time.Millisecond
	riverPoll     = 20 * time.Millisecond
	riverWorkers  = 2000
	riverEvents   = 1 << 20 // room for every event of a round: River drops what finds no room
	riverConns    = 20      // one for each submitter, and some for the workers
)

type riverArgs struct{ payload }

func (riverArgs) Kind() string { return "bench" }

type riverWorker struct {
	river.WorkerDefaults[riverArgs]
	handle func(n int)
}

func (w *riverWorker) Work(_ context.Context, job *river.Job[riverArgs]) error {
	w.handle(job.Args.N)
	return nil
}

func (q *riverQueue) open(ctx context.Context, s *site, handle func(n int)) error {
	q.site = s
	databaseURL, err := s.postgres.create(ctx, "river", "template0")
	if err != nil {
		return err
	}
	cfg, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return err
	}
	cfg.MaxConns = riverConns
	if q.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return err
	}
	driver := riverpgxv5.New(q.pool)
	quiet := slog.New(slog.DiscardHandler)
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: quiet})
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &riverWorker{handle: handle})
	q.client, err = river.NewClient(driver, &river.Config{
		FetchCooldown: riverCooldown, FetchPollInterval: riverPoll, Logger: quiet, Workers: workers,
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: riverWorkers}},
	})
	if err != nil {
		return err
	}
	events, cancel := q.client.SubscribeConfig(&river.SubscribeConfig{
		ChanSize: riverEvents, Kinds: []river.EventKind{river.EventKindJobCompleted},
	})
	q.cancel = cancel
	go func() {
		for range events { // until cancel; an event comes when the completion is committed
			q.done.Add(1)
		}
	}()
	return nil
}

func (q *riverQueue) submit(ctx context.Context, n int) error {
	_, err := q.client.Insert(ctx, riverArgs{payload{n, pad}}, nil)
	return err
}

func (q *riverQueue) begin(ctx context.Context) (time.Time, error) {
	return time.Time{}, q.client.Start(context.WithoutCancel(ctx))
}

func (q *riverQueue) finished(_ context.Context, steps int) (bool, error) {
	return q.done.Load() >= int64(steps), nil
}

func (q *riverQueue) servers() []*process { return []*process{q.site.postgres.process} }

func (q *riverQueue) close() {
	if q.client != nil {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		_ = q.client.Stop(ctx) // fails if it was not started
	}
	if q.cancel != nil {
		q.cancel()
	}
	if q.pool != nil {
		q.pool.Close()
	}
	_ = q.site.postgres.drop(context.Background(), "river")
}
