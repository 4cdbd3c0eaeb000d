package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/work"
	"github.com/omflow-booster/omflow-booster/worker"
)

// chainTime is how long a chain may begin steps in hand.
const chainTime = time.Second

func longLease(l *bus.Layout) { l.Lease = time.Minute }

// chained is an executor for steps that follow each other: each has its effect in one transaction, which removes its row and inserts those
// of the steps that next names, by their numbers. before runs first and may end the step.
func (s *site) chained(next func(n int) []int, before func(ctx context.Context, n int, st worker.Step) error) *executor {
	return newExecutor(func(ctx context.Context, st worker.Step) error {
		n := number(st)
		if before != nil {
			if err := before(ctx, n, st); err != nil {
				return err
			}
		}
		tx, err := s.db.BeginTxx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		if gone, err := tx.Exec(`DELETE FROM omflow_queuedata WHERE id = $1`, st.ID.Row); err != nil {
			return err
		} else if rows, _ := gone.RowsAffected(); rows == 0 {
			return worker.ErrDoneBefore
		}
		var items []work.Item
		for _, m := range next(n) {
			var row int64
			if err := tx.Get(&row, `INSERT INTO omflow_queuedata (queue_id, name, module_name, method_name, input_param)
				VALUES ($1, 'FormFlow', 'omformflow.production.f1.1.main', 'main', $2) RETURNING id`,
				fmt.Sprint("q", m), fmt.Sprintf(`{"flow_uuid":"f1","data_no":%d}`, m)); err != nil {
				return err
			}
			it, err := work.Parse(item(m, row))
			if err != nil {
				return err
			}
			items = append(items, it)
		}
		if err := tx.Commit(); err != nil {
			return err
		}
		if len(items) > 0 {
			st.Follow(items)
		}
		return nil
	})
}

func number(st worker.Step) (n int) {
	_, _ = fmt.Sscanf(st.Ticket, "f1/%d", &n)
	return n
}

// upTo is a chain of steps 1, 2 … last.
func upTo(last int) func(int) []int {
	return func(n int) []int {
		if n < last {
			return []int{n + 1}
		}
		return nil
	}
}

// deliveries counts what the Booster has delivered.
func (s *site) deliveries() int {
	s.t.Helper()
	c, err := s.c.JS.Consumer(s.t.Context(), bus.StreamWork, bus.ConsumerWorkers)
	require.NoError(s.t, err)
	return int(c.CachedInfo().Delivered.Consumer)
}

// begin files step 1 of a chain and hands it over.
func (s *site) begin(w *running) {
	s.t.Helper()
	status, reply, _ := w.submit(item(1, s.queueRow(1)))
	require.Equal(s.t, 200, status, reply)
}

func (s *site) over() bool {
	return s.rows("omflow_queuedata") == 0 && s.messages(bus.StreamWork) == 0
}

// state is the worker's heartbeat.
func (r *running) state() (state bus.WorkerState) {
	r.t.Helper()
	resp, err := r.http.Get("http://worker/v1/status")
	require.NoError(r.t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(r.t, err)
	var node bus.Node
	require.NoError(r.t, json.Unmarshal(text, &node))
	return *node.Worker
}

func never(c *worker.Config) { c.Reconcile = time.Hour }

func TestChainIsOneDelivery(t *testing.T) {
	t.Parallel()
	s := newSite(t, longLease)
	var order []int
	exec := s.chained(upTo(3), func(_ context.Context, n int, _ worker.Step) error { order = append(order, n); return nil })
	w := s.start(exec, never)
	s.begin(w)
	s.eventually("over", s.over)
	require.Equal(t, []int{1, 2, 3}, order)
	require.Equal(t, 1, s.deliveries())
	state := w.state()
	require.Equal(t, [3]int64{3, 2, 0}, [3]int64{state.Done, state.InHand, state.Failed})
	w.end()
	require.Equal(t, 3, s.rows("omflow_booster_history WHERE outcome = 'done' AND attempt = 1"))
}

func TestForkSpreads(t *testing.T) {
	t.Parallel()
	s := newSite(t, longLease)
	all := make(chan struct{}, 4)
	exec := s.chained(func(n int) []int {
		if n == 1 {
			return []int{2, 3, 4, 5}
		}
		return nil
	}, func(ctx context.Context, n int, _ worker.Step) error {
		if n == 1 {
			return nil
		}
		all <- struct{}{}
		for len(all) < 4 && ctx.Err() == nil { // all branches run at the same time
			time.Sleep(time.Millisecond)
		}
		return ctx.Err()
	})
	two := func(c *worker.Config) { c.Slots, c.Reconcile = 2, time.Hour }
	w := s.start(exec, two)
	s.start(exec, two)
	s.begin(w)
	s.eventually("over", s.over)
	require.Equal(t, 4, s.deliveries(), "the first branch runs in hand")
}

func TestChainIsBounded(t *testing.T) {
	t.Parallel()
	t.Run("in number", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, longLease)
		w := s.start(s.chained(upTo(40), nil), never)
		s.begin(w)
		s.eventually("over", s.over)
		require.GreaterOrEqual(t, s.deliveries(), 3, "17 steps each, or fewer on a slow machine")
	})
	t.Run("in time", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, longLease)
		w := s.start(s.chained(upTo(2), func(_ context.Context, n int, _ worker.Step) error {
			if n == 1 {
				time.Sleep(chainTime)
			}
			return nil
		}), never)
		s.begin(w)
		s.eventually("over", s.over)
		require.Equal(t, 2, s.deliveries())
		require.Zero(t, w.state().InHand)
	})
}

// A worker that is to stop, or to take no steps, finishes the step that runs, and publishes what follows.
func TestNoStepBeginsInHandDuringAStopOrACordon(t *testing.T) {
	t.Parallel()
	for name, order := range map[string]func(s *site, w *running, log *logBuffer){
		"stop": func(_ *site, w *running, _ *logBuffer) { w.stop() },
		"cordon": func(s *site, _ *running, log *logBuffer) {
			require.NoError(s.t, bus.SetCordon(s.t.Context(), s.c.JS, "srv1", bus.Cordon{By: "ann"}))
			s.eventually("cordoned", func() bool { return strings.Contains(log.String(), "no more steps are pulled") })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, longLease)
			log := &logBuffer{}
			s.log = log
			begun, hold := make(chan struct{}), make(chan struct{})
			w := s.start(s.chained(upTo(4), func(_ context.Context, n int, _ worker.Step) error {
				if n == 2 {
					close(begun)
					<-hold
				}
				return nil
			}), never, func(c *worker.Config) { c.Server = "srv1" })
			s.begin(w)
			<-begun
			order(s, w, log)
			close(hold)
			s.eventually("step 3 is published, and the chain over", func() bool {
				return s.rows("omflow_queuedata") == 1 && s.messages(bus.StreamWork) == 1 && s.deliveries() == 1
			})
			other := s.chained(upTo(4), nil)
			s.start(other, never, func(c *worker.Config) { c.Server = "srv2" })
			s.eventually("over", s.over)
			require.Equal(t, []int{1}, other.attemptsOf("q3"))
			w.end()
		})
	}
}

// Whatever happens to a step in hand counts as if it had had a message.
func TestStepInHandThatIsNotDone(t *testing.T) {
	t.Parallel()
	no := errors.New("no")
	for name, tc := range map[string]struct {
		err        error
		times      int // that step 2 ends so
		attempts   []int
		deliveries int    // of all steps
		dead       string // the attempt that DEAD names
	}{
		"fails once":         {no, 1, []int{1, 2}, 2, ""},
		"fails always":       {no, 9, []int{1, 2, 3}, 3, "3"},
		"fails for good":     {fmt.Errorf("%w: no", worker.ErrPermanent), 9, []int{1}, 1, "1"},
		"busy":               {&worker.RetryAfter{Wait: time.Millisecond, Err: worker.ErrNotStarted}, 2, []int{1, 1, 1}, 3, ""},
		"fails, and waits":   {&worker.RetryAfter{Wait: time.Second, Err: no}, 1, []int{1, 2}, 3, ""},
		"waits for ever":     {worker.ErrKept, 9, []int{1, 2, 3}, 4, "4"},
		"busy, for a second": {&worker.RetryAfter{Wait: time.Second, Err: worker.ErrNotStarted}, 1, []int{1, 1}, 3, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, longLease)
			times := 0
			exec := s.chained(upTo(3), func(_ context.Context, n int, _ worker.Step) error {
				if n != 2 {
					return nil
				}
				if times++; times <= tc.times {
					return tc.err
				}
				return nil
			})
			w := s.start(exec, never, func(c *worker.Config) { c.RetryBase, c.StepTimeout = time.Millisecond, time.Second })
			s.begin(w)
			if tc.dead == "" {
				s.eventually("over", s.over)
			} else {
				s.eventually("dead", func() bool { return s.messages(bus.StreamDead) == 1 && s.messages(bus.StreamWork) == 0 })
				require.Equal(t, 1, s.rows("omflow_queuedata"), "the row of a dead step stays")
				m := s.dead(bus.DeadSubject("FormFlow", "f1", "q2"))
				require.Equal(t, tc.dead, m.Header.Get(bus.HeaderAttempt))
				it, err := work.Parse(m.Data)
				require.NoError(t, err)
				require.Equal(t, "f1/2", m.Header.Get(bus.HeaderKey))
				require.Equal(t, int64(2), it.Row)
			}
			require.Equal(t, tc.attempts, exec.attemptsOf("q2"))
			require.Equal(t, []int{1}, exec.attemptsOf("q1"))
			require.LessOrEqual(t, s.deliveries(), tc.deliveries+1, "a step that comes too early is given back once")
			require.GreaterOrEqual(t, s.deliveries(), tc.deliveries)
			w.end()
			require.Zero(t, s.rows("omflow_booster_giveback WHERE row_id = 3"))
		})
	}
}

// The chain has lost its lease: nothing of it is published, and the reconciler finds the row of the step in hand.
func TestLeaseIsLostInTheMiddleOfAChain(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(l *bus.Layout) { l.Lease = 4 * time.Second })
	begun, ended := make(chan struct{}, 1), make(chan error, 1)
	first := true
	exec := s.chained(upTo(3), func(ctx context.Context, n int, _ worker.Step) error {
		if n != 2 || !first {
			return nil
		}
		first = false
		begun <- struct{}{}
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return ctx.Err()
	})
	w := s.start(exec)
	s.begin(w)
	select {
	case <-begun:
	case <-time.After(timeout):
		t.Fatal("step 2 does not begin")
	}
	s.bus.Stop()
	select {
	case err := <-ended:
		require.ErrorIs(t, err, worker.ErrLeaseLost)
	case <-time.After(timeout):
		t.Fatal("the step goes on without a lease")
	}
	s.bus.Start()
	s.eventually("over", s.over)
	require.Equal(t, []int{1, 1}, exec.attemptsOf("q2"))
	require.Equal(t, []int{1}, exec.attemptsOf("q3"))
}

func TestReconcilerLeavesRowsOfRunningStepsAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t, longLease)
	exec := newExecutor(nil)
	locked := s.queueRow(1)
	tx, err := s.db.Beginx()
	require.NoError(t, err)
	defer func() { _ = tx.Rollback() }()
	tx.MustExec(`SELECT id FROM omflow_queuedata WHERE id = $1 FOR UPDATE`, locked)
	s.start(exec, func(c *worker.Config) { c.Reconcile = 100 * time.Millisecond })
	for n := range 3 { // each is found in the second round after it came
		s.queueRow(2 + n)
		s.eventually("others are found", func() bool { return s.rows("omflow_queuedata") == 1 && s.messages(bus.StreamWork) == 0 })
	}
	require.Equal(t, 3, s.deliveries())
	require.Empty(t, exec.attemptsOf(fmt.Sprint("q", locked)))
	require.NoError(t, tx.Rollback())
	s.eventually("it is found when its lock is gone", s.over)
	require.Equal(t, []int{1}, exec.attemptsOf(fmt.Sprint("q", locked)))
}
