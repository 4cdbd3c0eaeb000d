package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"

	"github.com/omflow-booster/omflow-booster/internal/freeport"
)

// asynqQueue is asynq on a Redis that flushes every write to the disk. All of it but Redis runs in this process.
type asynqQueue struct {
	redis     *process
	client    *asynq.Client
	inspector *asynq.Inspector
	server    *asynq.Server
	handler   asynq.HandlerFunc
	handled   atomic.Int64
}

const (
	asynqPoll    = 5 * time.Millisecond // instead of a second: the latency depends on it
	asynqWorkers = 64
	asynqType    = "bench"
)

func redisProgram() (string, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return "", errors.New("redis-server is missing: apt-get install redis-server (Debian), or leave out asynq: see --peers")
	}
	return path, nil
}

func (q *asynqQueue) open(ctx context.Context, s *site, handle func(n int)) error {
	program, err := redisProgram()
	if err != nil {
		return err
	}
	dir, err := s.fresh("redis")
	if err != nil {
		return err
	}
	port, err := freeport.Take(ctx)
	if err != nil {
		return err
	}
	q.redis, err = command{name: "redis", dir: dir, argv: []string{program, "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", dir,
		"--save", "", "--appendonly", "yes", "--appendfsync", "always"}}.start()
	if err != nil {
		return err
	}
	opt := asynq.RedisClientOpt{Addr: "127.0.0.1:" + strconv.Itoa(port), PoolSize: asynqWorkers + 16}
	q.client, q.inspector = asynq.NewClient(opt), asynq.NewInspector(opt)
	if err := q.redis.ready(ctx, func(context.Context) error { return q.client.Ping() }); err != nil {
		return err
	}
	q.handler = func(_ context.Context, task *asynq.Task) error {
		var p payload
		if err := json.Unmarshal(task.Payload(), &p); err != nil {
			return fmt.Errorf("payload: %w", err)
		}
		handle(p.N)
		q.handled.Add(1)
		return nil
	}
	q.server = asynq.NewServer(opt, asynq.Config{
		Concurrency: asynqWorkers, TaskCheckInterval: asynqPoll, Logger: quietLogger{}, LogLevel: asynq.FatalLevel,
	})
	return nil
}

func (q *asynqQueue) submit(ctx context.Context, n int) error {
	body, err := json.Marshal(payload{n, pad})
	if err != nil {
		return err
	}
	_, err = q.client.EnqueueContext(ctx, asynq.NewTask(asynqType, body))
	return err
}

func (q *asynqQueue) begin(context.Context) (time.Time, error) {
	return time.Time{}, q.server.Start(q.handler)
}

func (q *asynqQueue) finished(_ context.Context, steps int) (bool, error) {
	if q.handled.Load() < int64(steps) {
		return false, nil
	}
	info, err := q.inspector.GetQueueInfo("default")
	if err != nil {
		return false, err
	}
	return info.Size == 0, nil
}

func (q *asynqQueue) servers() []*process { return []*process{q.redis} }

func (q *asynqQueue) close() {
	if q.server != nil {
		q.server.Shutdown()
	}
	if q.client != nil {
		_ = q.client.Close()
		_ = q.inspector.Close()
	}
	q.redis.end()
}

// quietLogger keeps asynq from writing between the lines of the result.
type quietLogger struct{}

func (quietLogger) Debug(...any) {}
func (quietLogger) Info(...any)  {}
func (quietLogger) Warn(...any)  {}
func (quietLogger) Error(...any) {}
func (quietLogger) Fatal(...any) {}
