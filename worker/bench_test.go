package worker_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/work"
	"github.com/omflow-booster/omflow-booster/worker"
)

// Every figure of these benchmarks has its yardstick in the same run, on the same machine: compare the steps/s.
const benchSteps = 4000

func reportSteps(b *testing.B, steps int) {
	b.ReportMetric(float64(steps)/b.Elapsed().Seconds(), "steps/s")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkEnqueue: 16 callers hand in one step each at a time and wait until it is durable.
func BenchmarkEnqueue(b *testing.B) {
	const callers = 16
	enqueue := func(b *testing.B, one func(n int)) {
		b.Helper()
		for b.Loop() {
			var next atomic.Int64
			var all sync.WaitGroup
			for range callers {
				all.Go(func() {
					for n := next.Add(1); n <= benchSteps; n = next.Add(1) {
						one(int(n))
					}
				})
			}
			all.Wait()
		}
		reportSteps(b, b.N*benchSteps)
	}
	b.Run("yardstick=raw-JetStream", func(b *testing.B) {
		s := newSite(b)
		round := 0
		enqueue(b, func(n int) {
			_, err := s.c.JS.Publish(context.Background(), fmt.Sprintf("work.k.f.q%d-%d", n, round), item(n, 0))
			if err != nil {
				b.Error(err)
			}
			if n == benchSteps {
				round++
			}
		})
	})
	b.Run("socket=OMFLOW-rows", func(b *testing.B) {
		s := newSite(b)
		w := s.idle()
		var row atomic.Int64
		enqueue(b, func(n int) { post(b, w, item(n, row.Add(1))) })
	})
	b.Run("socket=outbox-rows", func(b *testing.B) {
		s := newSite(b)
		w := s.idle()
		enqueue(b, func(n int) { post(b, w, item(n, 0)) })
	})
	b.Run("socket=outbox-rows-by-100", func(b *testing.B) {
		s := newSite(b)
		w := s.idle()
		batch := []byte(strings.Repeat(string(item(1, 0))+"\n", 100))
		enqueue(b, func(n int) {
			if n%100 == 0 {
				post(b, w, batch)
			}
		})
	})
}

func post(b *testing.B, w *running, body []byte) {
	if status, reply, _ := w.submit(body); status != http.StatusOK {
		b.Error(reply)
	}
}

// idle is a worker that never gets to running a step.
func (s *site) idle() *running {
	s.t.Helper()
	return s.start(newExecutor(func(ctx context.Context, _ worker.Step) error { <-ctx.Done(); return ctx.Err() }), func(c *worker.Config) {
		c.Slots, c.StopTimeout, c.Reconcile = 1, time.Millisecond, time.Hour
	})
}

// BenchmarkDrain: steps that wait are pulled, run (to no effect), their rows removed and acknowledged, with 16 slots.
func BenchmarkDrain(b *testing.B) {
	b.Run("yardstick=raw-JetStream-confirmed-ack", func(b *testing.B) {
		s := newSite(b)
		cons, err := s.c.JS.Consumer(context.Background(), bus.StreamWork, bus.ConsumerWorkers)
		require.NoError(b, err)
		for b.Loop() {
			b.StopTimer()
			s.fill(benchSteps)
			b.StartTimer()
			var done atomic.Int64
			var all sync.WaitGroup
			for range 16 {
				all.Go(func() {
					for done.Load() < benchSteps {
						batch, err := cons.Fetch(1, jetstream.FetchMaxWait(100*time.Millisecond))
						if err != nil {
							continue
						}
						for msg := range batch.Messages() {
							if msg.DoubleAck(context.Background()) == nil {
								done.Add(1)
							}
						}
					}
				})
			}
			all.Wait()
		}
		reportSteps(b, b.N*benchSteps)
	})
	for _, rows := range []bool{false, true} {
		b.Run(fmt.Sprintf("worker/rows=%v", rows), func(b *testing.B) {
			s := newSite(b)
			for b.Loop() {
				b.StopTimer()
				if rows {
					s.db.MustExec(`INSERT INTO omflow_queuedata (id, queue_id, name, module_name, method_name, input_param)
						SELECT n, 'q', 'FormFlow', 'm', 'main', '{}' FROM generate_series(1, $1) n`, benchSteps)
				}
				s.fill(benchSteps)
				b.StartTimer()
				exec := newExecutor(nil)
				w := s.start(exec, func(c *worker.Config) { c.Slots, c.Reconcile = 16, time.Hour })
				s.eventually("drained", func() bool { return s.messages(bus.StreamWork) == 0 })
				b.StopTimer()
				w.end()
				b.StartTimer()
			}
			reportSteps(b, b.N*benchSteps)
		})
	}
}

// fill puts steps into WORK without a worker.
func (s *site) fill(steps int) {
	s.t.Helper()
	for n := 1; n <= steps; n++ {
		msg := nats.NewMsg(bus.WorkSubject("FormFlow", "f1", fmt.Sprintf("q%d", n)))
		msg.Data = item(n, int64(n))
		_, err := s.c.JS.PublishMsgAsync(msg)
		require.NoError(s.t, err)
	}
	<-s.c.JS.PublishAsyncComplete()
}

// BenchmarkLatency: from the submit to the begin of the step, with free slots, one step at a time.
func BenchmarkLatency(b *testing.B) {
	s := newSite(b)
	begun := make(chan struct{})
	w := s.start(newExecutor(func(context.Context, worker.Step) error { begun <- struct{}{}; return nil }))
	row := int64(0)
	for b.Loop() {
		row++
		post(b, w, item(1, row))
		<-begun
	}
}

// BenchmarkChain: steps that follow each other by eight, in 16 slots, with the rows in the database: put publishes each follow-up step,
// follow keeps it in hand.
func BenchmarkChain(b *testing.B) {
	const chains, length = 250, 8
	for _, follow := range []bool{false, true} {
		b.Run(fmt.Sprintf("follow=%v", follow), func(b *testing.B) {
			s := newSite(b, longLease)
			exec := s.chained(upTo(length), nil)
			if run := exec.run; !follow {
				exec.run = func(ctx context.Context, st worker.Step) error {
					st.Follow = func(items []work.Item) { _, _ = st.Put(ctx, items) }
					return run(ctx, st)
				}
			}
			w := s.start(exec, func(c *worker.Config) { c.Slots, c.Reconcile = 16, time.Hour })
			for b.Loop() {
				var batch []byte
				for range chains {
					batch = append(append(batch, item(1, s.queueRow(1))...), '\n')
				}
				w.submit(batch)
				s.eventually("drained", s.over)
			}
			reportSteps(b, b.N*chains*length)
			b.ReportMetric(float64(s.deliveries())/float64(b.N*chains*length), "deliveries/step")
		})
	}
}
