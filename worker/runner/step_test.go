package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/work"
	"github.com/omflow-booster/omflow-booster/worker"
)

func TestStepDone(t *testing.T) {
	t.Parallel()
	p, _, _ := startPool(t, testConfig("runner"))
	within(t, p.Ready(), "ready")
	for range 3 {
		require.NoError(t, p.Execute(t.Context(), newStep("ok", nil)))
	}
}

func TestStepThatIsOtherThanDone(t *testing.T) {
	t.Parallel()
	p, _, _ := startPool(t, testConfig("runner"))
	require.ErrorIs(t, p.Execute(t.Context(), newStep("skipped", nil)), worker.ErrDoneBefore)
	require.ErrorIs(t, p.Execute(t.Context(), newStep("kept", nil)), worker.ErrKept)
	require.NoError(t, p.Execute(t.Context(), newStep("ok", nil)))
}

func TestItemReachesTheRunnerUnchanged(t *testing.T) {
	t.Parallel()
	p, _, _ := startPool(t, testConfig("runner"))
	s := newStep("echo", nil)
	s.Item.InputParam = json.RawMessage(`{"form":"<申請>&","big":12345678901234567890,"text":"{\"a\": 1}\u2028"}`)
	require.EqualError(t, p.Execute(t.Context(), s), string(s.Item.InputParam))
}

func TestLargestItem(t *testing.T) {
	t.Parallel()
	p, _, _ := startPool(t, testConfig("runner"))
	largest := work.MaxItemBytes - 16<<10
	s := newStep("size", strings.Repeat("x", largest-2))
	require.EqualError(t, p.Execute(t.Context(), s), fmt.Sprint(largest))
	s = newStep("size", strings.Repeat("x", 20<<20))
	require.EqualError(t, p.Execute(t.Context(), s), "0", "it stands in the row, and a line has 16 MiB at most")
}

func TestItemThatIsNotJSON(t *testing.T) {
	t.Parallel()
	p, _, _ := startPool(t, testConfig("runner"))
	s := newStep("ok", nil)
	s.Item.InputParam = json.RawMessage("{\n")
	require.ErrorIs(t, p.Execute(t.Context(), s), worker.ErrPermanent)
	require.NoError(t, p.Execute(t.Context(), newStep("ok", nil)), "the runner has seen nothing of it")
}

func TestFollow(t *testing.T) {
	t.Parallel()
	p, log, _ := startPool(t, testConfig("runner"))
	item := func(row int, name string) map[string]any {
		return map[string]any{"row": row, "queue_id": "q", "name": name, "module_name": "m", "method_name": "main", "input_param": "{}"}
	}
	// run executes a step that is done with these fields, and returns the rows that were to follow, and those that were put.
	run := func(fields map[string]any, follow bool) (followed, put []int64, err error) {
		s := newStep("follow", fields)
		if follow {
			s.Follow = func(items []work.Item) {
				for _, it := range items {
					followed = append(followed, it.Row)
				}
			}
		}
		s.Put = func(_ context.Context, items []work.Item) ([]work.ID, error) {
			for _, it := range items {
				put = append(put, it.Row)
			}
			return nil, worker.ErrUnavailable
		}
		err = p.Execute(t.Context(), s)
		return followed, put, err
	}
	items := []any{item(7, "A"), item(8, ""), item(9, "B")}

	followed, put, err := run(map[string]any{"items": items}, true)
	require.NoError(t, err)
	require.Equal(t, []int64{7, 9}, followed, "the reconciler says what is wrong with row 8")
	require.Empty(t, put)

	_, _, err = run(map[string]any{"items": items}, false)
	require.EqualError(t, err, "the worker takes none")

	for _, end := range []string{"recycle", "kept", "skipped"} {
		followed, put, err = run(map[string]any{"items": items, end: true}, true)
		require.Equal(t, end == "recycle", err == nil, end)
		require.Empty(t, followed, end)
		require.Equal(t, []int64{7, 9}, put, end)
	}

	followed, put, err = run(map[string]any{"items": []any{item(0, "A")}}, true)
	require.ErrorContains(t, err, "an item without a row")
	require.Empty(t, append(followed, put...))
	require.Contains(t, log.String(), "starting the runner again")
}

func TestPut(t *testing.T) {
	t.Parallel()
	p, _, _ := startPool(t, testConfig("runner"))
	item := func(name string) map[string]any {
		return map[string]any{"row": 7, "queue_id": "q", "name": name, "module_name": "m", "method_name": "main", "input_param": `{"x": 1}`}
	}

	t.Run("stored", func(t *testing.T) {
		s := newStep("put", []any{item("First"), item("Second")})
		var got []work.Item
		s.Put = func(_ context.Context, items []work.Item) ([]work.ID, error) {
			got = items
			return []work.ID{{Source: work.Queue, Row: 124}, {Source: work.Outbox, Row: 5}}, nil
		}
		require.EqualError(t, p.Execute(t.Context(), s), `{"op":"stored","id":"`+s.ID.String()+`","n":1,"ids":["q124","o5"]}`)
		require.Len(t, got, 2)
		require.Equal(t, work.Item{
			Row: 7, QueueID: "q", Name: "Second", ModuleName: "m", MethodName: "main", InputParam: json.RawMessage(`"{\"x\": 1}"`),
		}, got[1])
	})
	t.Run("nothing to store", func(t *testing.T) {
		s := newStep("put", []any{})
		s.Put = nil
		require.ErrorContains(t, p.Execute(t.Context(), s), `"ids":[]`)
	})
	t.Run("refused", func(t *testing.T) {
		s := newStep("put", []any{item("First")})
		s.Put = func(context.Context, []work.Item) ([]work.ID, error) { return nil, errors.New("no\nBooster") }
		require.EqualError(t, p.Execute(t.Context(), s), `{"op":"refused","id":"`+s.ID.String()+`","n":1,"error":"no Booster"}`)
	})
	t.Run("one malformed item with a row", func(t *testing.T) {
		large := item("Large")
		delete(large, "input_param")
		s := newStep("put", []any{item("First"), map[string]any{"row": 8, "name": "x"}, large})
		s.Put = func(_ context.Context, items []work.Item) ([]work.ID, error) {
			require.Len(t, items, 2)
			return []work.ID{{Source: work.Queue, Row: 7}, {Source: work.Queue, Row: 9}}, nil
		}
		require.ErrorContains(t, p.Execute(t.Context(), s), `"ids":["q7","q8","q9"]`)
	})
	t.Run("malformed item", func(t *testing.T) {
		s := newStep("put", []any{item("First"), map[string]any{"name": "x"}})
		s.Put = func(context.Context, []work.Item) ([]work.ID, error) {
			t.Error("nothing may be stored of a list with a bad item")
			return nil, nil
		}
		require.ErrorContains(t, p.Execute(t.Context(), s), "item 1: malformed item: module_name is missing")
	})
}

func TestFailed(t *testing.T) {
	t.Parallel()
	p, _, _ := startPool(t, testConfig("runner"))
	fail := func(m map[string]any) error { return p.Execute(t.Context(), newStep("fail", m)) }

	err := fail(map[string]any{"error": "Traceback:\n  no such form"})
	require.EqualError(t, err, "Traceback: no such form")
	require.NotErrorIs(t, err, worker.ErrPermanent)

	require.EqualError(t, fail(map[string]any{}), "the runner gave no reason")
	require.LessOrEqual(t, len(fail(map[string]any{"error": strings.Repeat("長", 1<<16)}).Error()), maxErrorText+len("…"))

	err = fail(map[string]any{"error": "deleted", "permanent": true, "retry_after_ms": 5})
	require.ErrorIs(t, err, worker.ErrPermanent)
	require.ErrorContains(t, err, "deleted")

	var again *worker.RetryAfter
	require.ErrorAs(t, fail(map[string]any{"error": "locked", "retry_after_ms": 1500}), &again)
	require.Equal(t, 1500*time.Millisecond, again.Wait)
	require.EqualError(t, again.Err, "locked")
	require.ErrorAs(t, fail(map[string]any{"retry_after_ms": int64(1) << 62}), &again)
	require.Equal(t, maxRetryAfter, again.Wait)

	err = fail(map[string]any{"error": "models.py has changed", "untried": true, "retry_after_ms": 1})
	require.ErrorIs(t, err, worker.ErrNotStarted)
	require.ErrorAs(t, err, &again)
	require.Equal(t, time.Millisecond, again.Wait)
	require.ErrorIs(t, fail(map[string]any{"untried": true}), worker.ErrNotStarted)
}

func TestRecycle(t *testing.T) {
	t.Parallel()
	p, _, _ := startPool(t, testConfig("runner"))
	first := runnerPID(t, p)
	require.Equal(t, first, runnerPID(t, p))
	require.NoError(t, p.Execute(t.Context(), newStep("recycle", nil)))
	second := runnerPID(t, p)
	require.NotEqual(t, first, second)
	require.EqualError(t, p.Execute(t.Context(), newStep("fail", map[string]any{"error": "x", "recycle": true})), "x")
	require.NotEqual(t, second, runnerPID(t, p))
}

func TestPrintsAreLoggedAndIgnored(t *testing.T) {
	t.Parallel()
	p, log, stop := startPool(t, testConfig("noisy"))
	s := newStep("print", nil)
	require.NoError(t, p.Execute(t.Context(), s))
	stop() // all output is read
	for _, want := range []string{
		"importing the world", "{not json}", "hello from user code", `{\"a\":1}`, "xxxx",
		"a line on standard error", "unknown message", "not running",
	} {
		require.Contains(t, log.String(), want)
	}
	for _, line := range strings.Split(log.String(), "\n") {
		require.LessOrEqual(t, len(line), maxLogLine+500)
		if strings.Contains(line, "hello from user code") {
			require.Contains(t, line, `"work":"`+s.ID.String()+`"`)
			require.Contains(t, line, `"child":"runner-1"`)
			require.Contains(t, line, `"stream":"stdout"`)
		}
	}
}

func TestCrashFailsOneStepOnly(t *testing.T) {
	t.Parallel()
	cfg := testConfig("runner")
	cfg.Size = 2
	p, _, _ := startPool(t, cfg)

	other := newStep("hang", nil) // in the other runner all the while
	told := reports(&other)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	otherEnd := begin(ctx, p, other)
	within(t, told, "the other step")

	err := p.Execute(t.Context(), newStep("crash", nil))
	require.ErrorContains(t, err, "exit status 3")
	require.ErrorContains(t, err, "last words 2 | last words 3 | last words 4 | last words 5 | last words 6")
	require.NotErrorIs(t, err, worker.ErrNotStarted)
	require.NotErrorIs(t, err, worker.ErrPermanent)

	require.NoError(t, p.Execute(t.Context(), newStep("ok", nil)), "the pool has a new runner")
	require.Empty(t, otherEnd, "the other step has not noticed")
	cancel()
	require.ErrorIs(t, within(t, otherEnd, "the other step"), context.Canceled)
}

func TestBrokenRunners(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]string{
		"malformed":    `malformed "done" message`,
		"print-before": `unreadable message: 50%{"op":"done","id":"q`,
		"nan":          `"error": NaN, "op": "failed"}`,
		"no-id":        `malformed "done" message: no id`,
		"long-line":    "line of more than 16 MiB",
		"close-stdout": "signal: killed",
	} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			p, _, _ := startPool(t, testConfig("runner"))
			require.ErrorContains(t, p.Execute(t.Context(), newStep(method, nil)), want)
			require.NoError(t, p.Execute(t.Context(), newStep("ok", nil)), "the pool recovers")
		})
	}
}

func TestDoneCountsThoughTheRunnerExits(t *testing.T) {
	t.Parallel()
	p, _, _ := startPool(t, testConfig("runner"))
	for range 5 {
		require.NoError(t, p.Execute(t.Context(), newStep("done-then-exit", nil)))
	}
}

func TestStepTimeoutKills(t *testing.T) {
	t.Parallel()
	cfg := testConfig("runner")
	cfg.StepTimeout = 300 * time.Millisecond
	p, _, _ := startPool(t, cfg)
	s := newStep("hang", nil)
	told := reports(&s)
	err := p.Execute(t.Context(), s)
	require.ErrorContains(t, err, "the step ran longer than 300ms (WORKER_STEP_TIMEOUT); runner-1 was killed")
	require.ErrorContains(t, err, "waiting for Godot")
	require.NotErrorIs(t, err, worker.ErrNotStarted)
	requireDead(t, pidIn(t, within(t, told, "pid")))
	require.NoError(t, p.Execute(t.Context(), newStep("ok", nil)))
}

func TestKillReachesGrandchildren(t *testing.T) {
	t.Parallel()
	p, _, _ := startPool(t, testConfig("runner"))
	s := newStep("tree", nil)
	told := reports(&s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	end := begin(ctx, p, s)
	grandchild := pidIn(t, within(t, told, "pid"))
	cancel()
	require.ErrorIs(t, within(t, end, "end"), context.Canceled)
	requireDead(t, grandchild)
}

func TestCancelKills(t *testing.T) {
	t.Parallel()
	p, _, _ := startPool(t, testConfig("runner"))
	s := newStep("hang", nil)
	told := reports(&s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	end := begin(ctx, p, s)
	pid := pidIn(t, within(t, told, "pid"))
	cancel()
	err := within(t, end, "end")
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, worker.ErrNotStarted)
	require.NotErrorIs(t, err, worker.ErrLeaseLost)
	requireDead(t, pid)
}

func TestPutUnderWayWhenTheStepIsCancelled(t *testing.T) {
	t.Parallel()
	p, _, _ := startPool(t, testConfig("runner"))
	s := newStep("hang", nil)
	putting := make(chan struct{})
	s.Put = func(ctx context.Context, _ []work.Item) ([]work.ID, error) {
		close(putting)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	end := begin(ctx, p, s)
	within(t, putting, "put")
	cancel()
	require.ErrorIs(t, within(t, end, "end"), context.Canceled)
}

func TestRenewalsReachTheRunner(t *testing.T) {
	t.Parallel()
	p, _, _ := startPool(t, testConfig("runner"))
	s := newStep("renew", nil)
	told := reports(&s)
	first := s.Lease.Deadline()
	end := begin(t.Context(), p, s)
	require.JSONEq(t, `{"deadline":`+ms(first)+`}`, string(within(t, told, "run")))

	// In the very moment of a put's answer or later: the runner must learn of it either way.
	later := first.Add(time.Minute)
	s.Lease.Renew(later)
	require.JSONEq(t, `{"op":"renew","deadline":`+ms(later)+`}`, string(within(t, told, "renewal")))
	require.NoError(t, within(t, end, "end"))
	s.Lease.Renew(later.Add(time.Minute)) // after the end of the step: nobody listens, nobody is hurt
	require.NoError(t, p.Execute(t.Context(), newStep("ok", nil)))
}

func TestFrozenRunnerIsKilledWhenTheLeasePasses(t *testing.T) {
	t.Parallel()
	p, _, _ := startPool(t, testConfig("runner"))
	within(t, p.Ready(), "ready")
	s := newStep("freeze", nil)
	s.Lease = worker.NewLease(time.Now().Add(500 * time.Millisecond))
	told := reports(&s)
	err := p.Execute(t.Context(), s)
	require.ErrorIs(t, err, worker.ErrLeaseLost)
	require.NotErrorIs(t, err, worker.ErrNotStarted)
	require.False(t, s.Lease.Valid())
	requireDead(t, pidIn(t, within(t, told, "pid")))
	require.NoError(t, p.Execute(t.Context(), newStep("ok", nil)))
}

func TestRenewedLeaseKeepsTheRunner(t *testing.T) {
	t.Parallel()
	p, _, _ := startPool(t, testConfig("runner"))
	within(t, p.Ready(), "ready")
	s := newStep("hang", nil)
	s.Lease = worker.NewLease(time.Now().Add(300 * time.Millisecond))
	told := reports(&s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	end := begin(ctx, p, s)
	within(t, told, "pid")
	last := s.Lease.Deadline().Add(300 * time.Millisecond)
	s.Lease.Renew(last)
	require.ErrorIs(t, within(t, end, "end"), worker.ErrLeaseLost)
	require.False(t, time.Now().Before(last), "ended before the renewed lease did")
}

func TestLeaseThatPassedBeforeTheStart(t *testing.T) {
	t.Parallel()
	p, _, _ := startPool(t, testConfig("runner"))
	pid := runnerPID(t, p)
	s := newStep("ok", nil)
	s.Lease = worker.NewLease(time.Now().Add(-time.Second))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, p.Execute(ctx, s), worker.ErrNotStarted)
	require.Equal(t, pid, runnerPID(t, p), "no runner had to die for it")
}

func TestLastWordsAreThoseOfTheTail(t *testing.T) {
	t.Parallel()
	var r child
	require.Empty(t, r.lastWords())
	r.tail.Add("one")
	r.tail.Add("two")
	require.Equal(t, "; last on standard error: one | two", r.lastWords())
	r.tail.Reset()
	require.Empty(t, r.lastWords())
}

func ms(deadline time.Time) string {
	raw, _ := json.Marshal(deadline.UnixMilli())
	return string(raw)
}

// A step that kills its runner while it is handed over must count, or it would come back for ever.
func TestRunnerThatDiesOverTheItemCostsAnAttempt(t *testing.T) {
	t.Parallel()
	p, _, _ := startPool(t, testConfig("short-reader"))
	err := p.Execute(t.Context(), newStep("ok", strings.Repeat("x", 1<<20)))
	require.ErrorContains(t, err, "ended when it had read")
	require.NotErrorIs(t, err, worker.ErrNotStarted)
}
