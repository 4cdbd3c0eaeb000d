package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/work"
	"github.com/omflow-booster/omflow-booster/worker"
	"github.com/omflow-booster/omflow-booster/worker/outbox"
)

func TestSubmittedWorkRunsOnceAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	exec := newExecutor(nil)
	w := s.start(exec)
	var batch bytes.Buffer
	for n := range 200 {
		batch.Write(append(item(n, 0), '\n'))
	}
	status, reply, _ := w.submit(batch.Bytes())
	require.Equal(t, http.StatusOK, status, reply)
	require.Equal(t, 200, strings.Count(reply, `"queued":true`))
	s.eventually("all rows finished", func() bool { return s.rows("omflow_booster_outbox") == 0 && s.messages(bus.StreamWork) == 0 })
	all, repeated := exec.steps()
	require.Equal(t, [2]int{200, 0}, [2]int{all, repeated})
	require.LessOrEqual(t, exec.top.Load(), int32(4), "never more steps at once than slots")
	w.end()
	require.Equal(t, 200, s.rows("omflow_booster_history"), "the history is written out at the stop")
}

func TestSubmitForms(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	w := s.start(newExecutor(nil))
	row := s.queueRow(1)
	for name, tc := range map[string]struct {
		body   string
		status int
		reply  string
	}{
		"one":           {string(item(1, row)), 200, fmt.Sprintf(`{"items":[{"id":"q%d","queued":true}]}`, row)},
		"array":         {"[" + string(item(2, 0)) + "," + string(item(3, 0)) + "]", 200, `"queued":true`},
		"lines":         {string(item(2, 0)) + "\n" + string(item(3, 0)), 200, `"queued":true`},
		"empty":         {"  ", 400, "the request is empty"},
		"no JSON":       {"hello", 400, "malformed item"},
		"cut short":     {`{"name":`, 400, "malformed item"},
		"unknown field": {`{"nam":"x"}`, 400, "item 1: malformed item: name is missing"},
		"second wrong":  {string(item(2, 0)) + "\n{}", 400, "item 2: malformed item: name is missing"},
		"no module":     {`{"name":"x"}`, 400, "module_name is missing"},
		"long name": {
			`{"name":"` + strings.Repeat("x", 5000) + `","module_name":"m","method_name":"n","input_param":{}}`, 400,
			"name has 5000 bytes",
		},
		"NUL": {
			`{"name":"x\u0000","module_name":"m","method_name":"n","input_param":{}}`, 400,
			"name has a character that databases refuse",
		},
		"no UTF-8": {`{"name":"x","module_name":"m","method_name":"n","input_param":"` + "\xff" + `"}`, 400, "input_param is not UTF-8"},
		"long submit_id": {
			`{"name":"x","module_name":"m","method_name":"n","input_param":{},"submit_id":"` + strings.Repeat("x", 300) + `"}`,
			400, "submit_id has 300 bytes",
		},
		"no input_param": {`{"name":"x","module_name":"m","method_name":"n"}`, 400, "input_param is missing"},
		"oversized": {
			`{"name":"x","module_name":"m","method_name":"n","input_param":"` + strings.Repeat("x", work.MaxItemBytes) + `"}`,
			413, "oversized item",
		},
	} {
		t.Run(name, func(t *testing.T) {
			status, reply, _ := w.submit([]byte(tc.body))
			require.Equal(t, tc.status, status, reply)
			require.Contains(t, reply, tc.reply)
		})
	}
}

func TestSameSubmitIDIsTheSameWorkWhileItWaits(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	hold := make(chan struct{})
	exec := newExecutor(func(context.Context, worker.Step) error { <-hold; return nil })
	w := s.start(exec)
	body := []byte(`{"name":"x","module_name":"m","method_name":"n","input_param":{},"submit_id":"order-7"}`)
	_, first, _ := w.submit(body)
	_, second, _ := w.submit(body)
	require.Equal(t, first, second)
	close(hold)
	s.eventually("finished", func() bool { return s.rows("omflow_booster_outbox") == 0 })
	all, repeated := exec.steps()
	require.Equal(t, [2]int{1, 0}, [2]int{all, repeated})
}

func TestFailingStepIsTriedAgainAndThenDead(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	exec := newExecutor(func(context.Context, worker.Step) error { return errors.New("no such form\nsecond line") })
	w := s.start(exec)
	row := s.queueRow(1)
	status, reply, _ := w.submit(item(1, row))
	require.Equal(t, 200, status, reply)
	s.eventually("dead", func() bool { return s.messages(bus.StreamDead) == 1 && s.messages(bus.StreamWork) == 0 })

	id := fmt.Sprintf("q%d", row)
	require.Equal(t, []int{1, 2, 3}, exec.attemptsOf(id))
	msg := s.dead(bus.DeadSubject("FormFlow", "f1", id))
	require.Equal(t, "failed 3 times", msg.Header.Get(bus.HeaderDeadReason))
	require.Equal(t, "no such form second line", msg.Header.Get(bus.HeaderDeadError))
	require.Equal(t, "3", msg.Header.Get(bus.HeaderAttempt))
	require.Equal(t, id, msg.Header.Get(bus.HeaderID))
	require.Equal(t, "f1/1", msg.Header.Get(bus.HeaderKey))
	require.Equal(t, 1, s.rows("omflow_queuedata"), "the row of a dead step stays")

	// Several rounds of the reconciler later it is still dead, and tried no more.
	row2 := s.queueRow(2)
	s.eventually("reconciled and dead too", func() bool { return s.messages(bus.StreamDead) == 2 })
	require.Len(t, exec.attemptsOf(id), 3)
	require.Len(t, exec.attemptsOf(fmt.Sprintf("q%d", row2)), 3)
}

func TestPermanentFailureIsDeadAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	exec := newExecutor(func(context.Context, worker.Step) error { return fmt.Errorf("%w: 404", worker.ErrPermanent) })
	w := s.start(exec)
	_, reply, _ := w.submit(item(1, 0))
	s.eventually("dead", func() bool { return s.messages(bus.StreamDead) == 1 && s.messages(bus.StreamWork) == 0 })
	all, repeated := exec.steps()
	require.Equal(t, [2]int{1, 0}, [2]int{all, repeated}, reply)
}

func TestStepThatDidNotStartCostsNoAttempt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	refusals := 0
	exec := newExecutor(nil)
	exec.run = func(context.Context, worker.Step) error {
		exec.mu.Lock()
		defer exec.mu.Unlock()
		if refusals++; refusals <= 5 {
			return fmt.Errorf("%w: no runner", worker.ErrNotStarted)
		}
		return nil
	}
	w := s.start(exec)
	row := s.queueRow(1)
	w.submit(item(1, row))
	s.eventually("done", func() bool { return s.rows("omflow_queuedata") == 0 && s.rows("omflow_booster_giveback") == 0 })
	require.Equal(t, []int{1, 1, 1, 1, 1, 1}, exec.attemptsOf(fmt.Sprintf("q%d", row)))
}

func TestRedeliveredStepWhoseRowIsGoneIsNotRunAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	exec := newExecutor(nil)
	row := s.queueRow(1)
	exec.run = func(context.Context, worker.Step) error {
		s.db.MustExec(`DELETE FROM omflow_queuedata WHERE id = $1`, row) // the effect is in place …
		return errors.New("… but the answer is lost")
	}
	w := s.start(exec)
	w.submit(item(1, row))
	s.eventually("skipped", func() bool { return s.messages(bus.StreamWork) == 0 })
	require.Equal(t, []int{1}, exec.attemptsOf(fmt.Sprintf("q%d", row)))
	require.Zero(t, s.messages(bus.StreamDead))
}

func TestRowsWithoutAMessageAreQueued(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for n := range 700 { // more than one batch
		s.queueRow(n)
	}
	s.db.MustExec(`INSERT INTO omflow_booster_outbox (item_key, body) VALUES ('k', $1)`, string(item(1, 0)))
	exec := newExecutor(nil)
	s.start(exec)
	s.start(exec) // two workers: one of them reconciles
	s.eventually("all done", func() bool { return s.rows("omflow_queuedata")+s.rows("omflow_booster_outbox") == 0 })
	all, repeated := exec.steps()
	require.Equal(t, [2]int{701, 0}, [2]int{all, repeated})
}

func TestRowThatCannotBeCarriedIsShownAsDead(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start(newExecutor(nil))
	s.db.MustExec(
		`INSERT INTO omflow_queuedata (queue_id, name, module_name, method_name, input_param) VALUES ('q', 'FormFlow', '', 'main', '{}')`)
	s.eventually("dead", func() bool { return s.messages(bus.StreamDead) == 1 })
	require.Contains(t, s.dead("dead.formflow.-.q1").Header.Get(bus.HeaderDeadError), "module_name is missing")
	require.Equal(t, 1, s.rows("omflow_queuedata"))
}

// Whether the reconciler finds its row, the server hands it in with or without its body, or a step queues it: it runs, once,
// with what its row says.
func TestStepThatIsTooLargeForTheBusRuns(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	params := make(chan string, 10)
	exec := newExecutor(nil)
	large := strings.Repeat("x", work.MaxItemBytes)
	insert := func(n int) (row int64, whole []byte) {
		param := fmt.Sprintf(`{"flow_uuid":"f1","data_no":%d,"text":"%s"}`, n, large)
		require.NoError(t, s.db.Get(&row, `INSERT INTO omflow_queuedata (queue_id, name, module_name, method_name, input_param)
			VALUES ('q', 'FormFlow', 'm', 'main', $1) RETURNING id`, param))
		return row, fmt.Appendf(nil, `{"row":%d,"queue_id":"q","name":"FormFlow","module_name":"m","method_name":"main","input_param":%s}`, row,
			param)
	}
	rowOfAStep := make(chan work.Item, 1)
	exec.run = func(ctx context.Context, st worker.Step) error {
		params <- st.Ticket + " " + fmt.Sprint(len(st.Item.InputParam))
		select {
		case next := <-rowOfAStep:
			ids, err := st.Put(ctx, []work.Item{next})
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint("q", next.Row), ids[0].String())
		default:
		}
		return nil
	}
	insert(1) // for the reconciler
	w := s.start(exec, func(c *worker.Config) { c.Reconcile = 100 * time.Millisecond })
	_, whole := insert(2)
	status, reply, _ := w.submit(whole)
	require.Equal(t, 200, status, reply)
	row, whole := insert(3)
	status, reply, _ = w.submit(append(bytes.Split(whole, []byte(`,"input_param"`))[0], '}'))
	require.Equal(t, 200, status, reply)
	require.JSONEq(t, fmt.Sprintf(`{"items":[{"id":"q%d","queued":true}]}`, row), reply)
	_, whole = insert(5)
	next, err := work.Parse(whole)
	require.NoError(t, err)
	rowOfAStep <- next
	w.submit(item(4, s.queueRow(4)))
	s.eventually("all done", func() bool { return s.rows("omflow_queuedata") == 0 && s.messages(bus.StreamWork) == 0 })
	all, repeated := exec.steps()
	require.Equal(t, [2]int{5, 0}, [2]int{all, repeated}, "not also under a second subject")
	got := map[string]bool{}
	for range 5 {
		got[<-params] = true
	}
	size := len(`{"flow_uuid":"f1","data_no":1,"text":""}`) + len(large)
	for n := range 5 {
		if n+1 != 4 {
			require.Contains(t, got, fmt.Sprintf("f1/%d %d", n+1, size))
		}
	}
	require.Zero(t, s.messages(bus.StreamDead))
}

func TestOneWrongItemKeepsNoOtherFromBeingTaken(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	w := s.start(newExecutor(nil), func(c *worker.Config) { c.Reconcile = time.Hour })
	good, wrong, gone, odd := s.queueRow(1), s.queueRow(2), s.queueRow(3), s.queueRow(4)
	s.db.MustExec(`DELETE FROM omflow_queuedata WHERE id = $1`, gone)
	s.db.MustExec(`UPDATE omflow_queuedata SET module_name = '' WHERE id = $1`, odd)
	lean := `{"row":%d,"queue_id":"q","name":"FormFlow","module_name":"m","method_name":"main"}`
	body := bytes.Join([][]byte{
		[]byte(fmt.Sprintf(`{"row":%d,"nom":"FormFlow"}`, wrong)), item(1, good), fmt.Appendf(nil, lean, gone), fmt.Appendf(nil, lean, odd),
	}, []byte("\n"))
	want := fmt.Sprintf(`{"items":[
		{"id":"q%d","queued":false,"error":"malformed item: name is missing (the kind of queue, for example FormFlow)"},
		{"id":"q%d","queued":true},
		{"id":"q%d","queued":true},
		{"id":"q%d","queued":false,"error":"malformed item: module_name is missing"}]}`, wrong, good, gone, odd)
	status, reply, _ := w.submit(body)
	require.Equal(t, http.StatusAccepted, status, "every one is safe; an older plugin is content with it")
	require.JSONEq(t, want, reply)
	s.eventually("done", func() bool { return s.rows("omflow_queuedata") == 2 })

	answer, err := s.c.NC.Request(bus.SubjectSubmit, body, timeout)
	require.NoError(t, err)
	require.JSONEq(t, want, string(answer.Data), "over the bus too")

	status, reply, _ = w.submit(append([]byte(fmt.Sprintf(`{"row":%d,"nom":"FormFlow"}`+"\n", wrong)), `{"nom":"FormFlow"}`...))
	require.Equal(t, http.StatusBadRequest, status, "one without a row would be lost if nobody looked")
	require.Contains(t, reply, "item 2")
}

func TestEmptyBoosterIsRebuiltFromTheTable(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	hold := make(chan struct{})
	exec := newExecutor(func(ctx context.Context, _ worker.Step) error {
		select {
		case <-hold:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	w := s.start(exec)
	for n := range 100 {
		status, reply, _ := w.submit(item(n, s.queueRow(n)))
		require.Equal(t, 200, status, reply)
	}
	s.bus.Stop()
	s.bus.Wipe()
	status, _, header := w.submit(item(1, 1))
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.NotEmpty(t, header.Get("Retry-After"))
	s.bus.Start()
	s.eventually("rebuilt", func() bool { n := s.messages(bus.StreamWork); return n >= 90 && n < unknown })
	close(hold)
	s.eventually("all done", func() bool { return s.rows("omflow_queuedata") == 0 && s.messages(bus.StreamWork) == 0 })
}

func TestFullQueueIsSaidAndNothingIsLost(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(l *bus.Layout) { l.StoreBytes = 8 << 20 }) // some 3 MB for WORK
	exec := newExecutor(func(ctx context.Context, _ worker.Step) error { <-ctx.Done(); return ctx.Err() })
	w := s.start(exec, func(c *worker.Config) { c.StopTimeout = 10 * time.Millisecond })
	big := strings.Repeat("x", 400_000)
	accepted := 0
	for {
		status, reply, header := w.submit([]byte(`{"name":"x","module_name":"m","method_name":"n","input_param":"` + big + `"}`))
		if status == http.StatusOK {
			accepted++
			continue
		}
		require.Equal(t, http.StatusServiceUnavailable, status, reply)
		require.Contains(t, reply, "full")
		require.NotEmpty(t, header.Get("Retry-After"))
		break
	}
	require.Positive(t, accepted)
	require.Equal(t, accepted, s.rows("omflow_booster_outbox"), "a refused item leaves no row")
}

// The row of an earlier, accepted submit must outlive a later refusal of the same submit_id.
func TestRefusalLeavesRowsOfEarlierSubmitsAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(l *bus.Layout) { l.StoreBytes = 8 << 20 })
	w := s.start(newExecutor(func(ctx context.Context, _ worker.Step) error { <-ctx.Done(); return ctx.Err() }),
		func(c *worker.Config) { c.StopTimeout, c.Reconcile = 10*time.Millisecond, time.Hour })
	body := []byte(`{"name":"x","module_name":"m","method_name":"n","input_param":{},"submit_id":"mine"}`)
	s.db.MustExec(`INSERT INTO omflow_booster_outbox (item_key, body) VALUES ('mine', $1)`, string(body)) // accepted, not queued yet
	big := strings.Repeat("x", 400_000)
	for status := http.StatusOK; status == http.StatusOK; {
		status, _, _ = w.submit([]byte(`{"name":"x","module_name":"m","method_name":"n","input_param":"` + big + `"}`))
	}
	bigMine := []byte(`{"name":"x","module_name":"m","method_name":"n","input_param":"` + big + `","submit_id":"mine"}`)
	s.eventually("answered as accepted", func() bool {
		status, _, _ := w.submit(bigMine)
		return status == http.StatusAccepted
	})
	var n int
	require.NoError(t, s.db.Get(&n, `SELECT count(*) FROM omflow_booster_outbox WHERE item_key = 'mine'`))
	require.Equal(t, 1, n)
}

func TestDatabaseAwayCostsNoTries(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	exec := newExecutor(nil)
	exec.run = func(ctx context.Context, st worker.Step) error { // as an OMFLOW step: it needs the database itself
		_, err := s.db.ExecContext(ctx, `DELETE FROM omflow_queuedata WHERE id = $1`, st.ID.Row)
		return err
	}
	w := s.start(exec, func(c *worker.Config) { c.MaxAttempts = 1 })
	reopen := s.closeDatabase()
	for n := int64(1); n <= 20; n++ {
		w.submit(item(int(n), n)) // rows that are there once the database is
	}
	s.eventually("every slot has met the closed database", func() bool { all, _ := exec.steps(); return all >= 4 })
	reopen()
	s.eventually("all looked at again", func() bool { return s.messages(bus.StreamWork) == 0 })
	require.Zero(t, s.messages(bus.StreamDead), "a step that failed while the database was away has lost nothing")
}

func TestGivingBackCountsForOneMessageOnly(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	exec := newExecutor(func(context.Context, worker.Step) error { return errors.New("no") })
	row := s.queueRow(1)
	s.db.MustExec(`INSERT INTO omflow_booster_giveback (source, row_id, stream_seq, deliveries) VALUES ('q', $1, 4711, 5)`, row)
	w := s.start(exec)
	w.submit(item(1, row))
	s.eventually("dead", func() bool { return s.messages(bus.StreamDead) == 1 })
	require.Equal(t, []int{1, 2, 3}, exec.attemptsOf(fmt.Sprintf("q%d", row)), "what was given back of another message does not count")
}

func TestDecisionOutlivesARestartOfTheBooster(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(l *bus.Layout) { l.Lease = 20 * time.Second })
	begun, hold := make(chan struct{}, 10), make(chan struct{})
	exec := newExecutor(func(context.Context, worker.Step) error {
		begun <- struct{}{}
		<-hold
		return fmt.Errorf("%w: the true reason", worker.ErrPermanent)
	})
	w := s.start(exec, func(c *worker.Config) { c.MaxAttempts = 1 })
	row := s.queueRow(1)
	w.submit(item(1, row))
	<-begun
	s.bus.Stop()
	close(hold)
	s.bus.Start()
	s.eventually("dead", func() bool { return s.messages(bus.StreamDead) == 1 && s.messages(bus.StreamWork) == 0 })
	require.Contains(t, s.dead(bus.DeadSubject("FormFlow", "f1", fmt.Sprintf("q%d", row))).Header.Get(bus.HeaderDeadError), "the true reason")
	all, repeated := exec.steps()
	require.Equal(t, [2]int{1, 0}, [2]int{all, repeated})
}

// The reconciler finds no message for a row and publishes it; meanwhile the step was given up on, which made room for that message.
func TestStepThatWasGivenUpOnIsNotRunByTheReconcilersMessage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	exec := newExecutor(nil)
	row := s.queueRow(1)
	id := fmt.Sprintf("q%d", row)
	_, err := s.c.JS.Publish(t.Context(), bus.DeadSubject("FormFlow", "f1", id), item(1, row))
	require.NoError(t, err)
	msg := nats.NewMsg(bus.WorkSubject("FormFlow", "f1", id))
	msg.Data = item(1, row)
	msg.Header.Set(bus.HeaderCheck, bus.CheckReconciled)
	_, err = s.c.JS.PublishMsg(t.Context(), msg)
	require.NoError(t, err)
	s.start(exec)
	s.eventually("the message is gone", func() bool { return s.messages(bus.StreamWork) == 0 })
	all, _ := exec.steps()
	require.Zero(t, all)
	require.EqualValues(t, 1, s.messages(bus.StreamDead))
	require.Equal(t, 1, s.rows("omflow_queuedata"), "it is not done")
}

// A Booster that was killed may deliver for the first time, once more, what was acknowledged a moment before it died. The
// runner finds the row gone.
func TestHistoryHasOneLineForOneEffect(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	effects := 0
	exec := newExecutor(func(context.Context, worker.Step) error {
		if n, err := s.db.MustExec(`DELETE FROM omflow_queuedata WHERE id = 1`).RowsAffected(); n == 0 || err != nil {
			return worker.ErrDoneBefore
		}
		effects++
		return nil
	})
	w := s.start(exec, func(c *worker.Config) { c.Slots, c.Reconcile = 1, time.Hour })
	row := s.queueRow(1)
	for n := range 2 {
		if n > 0 { // so that it does not remember the identity of the message
			s.bus.Stop()
			s.bus.Start()
		}
		s.eventually("queued", func() bool { status, _, _ := w.submit(item(1, row)); return status == http.StatusOK })
		s.eventually("over", func() bool { return len(exec.attemptsOf("q1")) == n+1 && s.messages(bus.StreamWork) == 0 })
	}
	w.end()
	require.Equal(t, [2]int{1, 1}, [2]int{effects, s.rows("omflow_booster_history WHERE outcome = 'done'")})
}

// The server keeps the row of a step that it has sent elsewhere, and deletes it when the answer comes.
func TestRowThatIsKeptWaitsForItsAnswer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	answered, silent := s.queueRow(1), s.queueRow(2)
	exec := newExecutor(func(_ context.Context, st worker.Step) error {
		if st.ID.Row == silent { // the other one was sent before, for there is one slot
			s.db.MustExec(`DELETE FROM omflow_queuedata WHERE id = $1`, answered)
		}
		return worker.ErrKept
	})
	w := s.start(exec, func(c *worker.Config) {
		c.Slots, c.Reconcile, c.MaxAttempts, c.StepTimeout = 1, 100*time.Millisecond, 2, 2*time.Second
	})
	w.submit(item(1, answered))
	s.eventually("the first is sent", func() bool { all, _ := exec.steps(); return all == 1 })
	w.submit(item(2, silent))
	s.eventually("the other one is given up", func() bool { return s.messages(bus.StreamDead) == 1 && s.messages(bus.StreamWork) == 0 })
	require.Equal(t, []int{1}, exec.attemptsOf(fmt.Sprint("q", answered)))
	require.Equal(t, []int{1, 2}, exec.attemptsOf(fmt.Sprint("q", silent)), "once in the time of a step")
	require.Equal(t, 1, s.rows("omflow_queuedata"), "its row stays all the same")
}

func TestFullDeadHoldsNoSlot(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(l *bus.Layout) { l.StoreBytes, l.Lease = 8<<20, 5*time.Minute })
	for n := 0; ; n++ {
		if _, err := s.c.JS.Publish(t.Context(), fmt.Sprintf("dead.x.y.q%d", 1000+n),
			make([]byte, 100_000>>min(n/7, 16))); bus.IsFull(err) && n > 120 {
			break
		}
	}
	exec := newExecutor(nil)
	bad := s.queueRow(1)
	exec.run = func(_ context.Context, st worker.Step) error {
		if st.ID.Row == bad {
			return fmt.Errorf("%w: no", worker.ErrPermanent)
		}
		return nil
	}
	w := s.start(exec, func(c *worker.Config) { c.Slots, c.Reconcile = 1, time.Hour })
	w.submit(item(1, bad))
	s.eventually("it has failed", func() bool { return len(exec.attemptsOf(fmt.Sprint("q", bad))) > 0 })
	w.submit(item(2, s.queueRow(2)))
	s.eventually("the slot is free", func() bool { return s.rows("omflow_queuedata") == 1 })
	require.EqualValues(t, 1, s.messages(bus.StreamWork), "it stays in WORK until there is room in DEAD")
}

// What is to be said to a Booster that is away is not even tried: the client library would call that a full buffer.
func TestBoosterThatIsAwayIsCalledAway(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(l *bus.Layout) { l.Lease = time.Second })
	begun, hold := make(chan struct{}, 10), make(chan struct{})
	exec := newExecutor(func(_ context.Context, st worker.Step) error {
		begun <- struct{}{}
		<-hold
		s.db.MustExec(`DELETE FROM omflow_queuedata WHERE id = $1`, st.ID.Row)
		return nil
	})
	var log logBuffer
	s.log = &log
	w := s.start(exec, func(c *worker.Config) { c.Reconcile = 100 * time.Millisecond })
	for n := range 3 {
		w.submit(item(n, s.queueRow(n)))
	}
	for range 3 {
		<-begun
	}
	s.bus.Stop()
	s.eventually("it is missed", func() bool { status, _, _ := w.submit(item(1, 1)); return status == http.StatusServiceUnavailable })
	close(hold)
	s.eventually("three acks given up", func() bool { return strings.Count(log.String(), "ack not confirmed") == 3 })
	s.bus.Start()
	s.eventually("all over", func() bool { return s.messages(bus.StreamWork) == 0 })
	w.end()
	require.NotContains(t, log.String(), "outbound buffer limit")
	require.Contains(t, log.String(), "no connection to a Booster")
	require.Equal(t, 3, s.rows("omflow_booster_history WHERE outcome = 'done'"))
}

func TestAnotherQueueEndsWhatRuns(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(l *bus.Layout) { l.Lease = time.Minute })
	begun, ended := make(chan struct{}, 10), make(chan error, 10)
	exec := newExecutor(func(ctx context.Context, _ worker.Step) error {
		begun <- struct{}{}
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return ctx.Err()
	})
	w := s.start(exec, func(c *worker.Config) { c.Slots, c.Reconcile, c.StopTimeout = 1, time.Hour, time.Millisecond })
	w.submit(item(1, s.queueRow(1)))
	<-begun
	s.bus.Stop()
	s.bus.Wipe()
	s.bus.Start()
	select {
	case err := <-ended:
		require.ErrorIs(t, err, worker.ErrLeaseLost, "its sequence number may be another step's now")
	case <-time.After(timeout):
		t.Fatal("a step of a queue that is gone goes on")
	}
}

func TestSocketPathThatIsAFileIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	file := filepath.Join(t.TempDir(), "precious")
	require.NoError(t, os.WriteFile(file, []byte("x"), 0o600))
	client := s.bus.Client()
	w := worker.New(worker.Config{Socket: file, Slots: 1}, client, outbox.New(s.db), newExecutor(nil), zerolog.Nop())
	require.ErrorContains(t, w.Run(t.Context()), "WORKER_SOCKET")
	require.FileExists(t, file)
}

func TestSoftStopFinishesRunningSteps(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	begun, hold := make(chan struct{}, 10), make(chan struct{})
	exec := newExecutor(func(context.Context, worker.Step) error { begun <- struct{}{}; <-hold; return nil })
	w := s.start(exec, func(c *worker.Config) { c.Slots = 2 })
	for n := range 6 {
		w.submit(item(n, s.queueRow(n)))
	}
	<-begun
	<-begun
	w.stop()
	time.AfterFunc(200*time.Millisecond, func() { close(hold) })
	w.end()
	all, _ := exec.steps()
	require.Equal(t, 2, all, "nothing new is begun after the stop")
	require.Equal(t, 4, s.rows("omflow_queuedata"))
	require.EqualValues(t, 4, s.messages(bus.StreamWork))

	second := newExecutor(nil)
	s.start(second)
	s.eventually("the rest runs elsewhere", func() bool { return s.rows("omflow_queuedata") == 0 })
	require.EqualValues(t, 1, second.attemptsOf("q5")[0])
}

func TestHardStopGivesStepsBackWithoutAnAttempt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	begun := make(chan struct{}, 10)
	exec := newExecutor(func(ctx context.Context, _ worker.Step) error { begun <- struct{}{}; <-ctx.Done(); return ctx.Err() })
	w := s.start(exec, func(c *worker.Config) { c.StopTimeout = 50 * time.Millisecond })
	row := s.queueRow(1)
	w.submit(item(1, row))
	<-begun
	w.end()
	second := newExecutor(nil)
	s.start(second)
	s.eventually("done elsewhere", func() bool { return s.rows("omflow_queuedata") == 0 })
	require.Equal(t, []int{1}, second.attemptsOf(fmt.Sprintf("q%d", row)))
}

func TestLongStepKeepsItsLease(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(l *bus.Layout) { l.Lease = time.Second })
	exec := newExecutor(func(ctx context.Context, _ worker.Step) error {
		select {
		case <-time.After(3 * time.Second): // three leases
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	s.start(exec)
	w := s.start(exec)
	row := s.queueRow(1)
	w.submit(item(1, row))
	s.eventually("done", func() bool { return s.rows("omflow_queuedata") == 0 })
	require.Equal(t, []int{1}, exec.attemptsOf(fmt.Sprintf("q%d", row)))
}

func TestStepEndsWhenItsLeaseCannotBeRenewed(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(l *bus.Layout) { l.Lease = time.Second })
	begun, ended := make(chan struct{}, 1), make(chan error, 10)
	exec := newExecutor(func(ctx context.Context, st worker.Step) error {
		begun <- struct{}{}
		<-ctx.Done()
		_, err := st.Put(context.Background(), []work.Item{st.Item})
		ended <- err
		return context.Cause(ctx)
	})
	w := s.start(exec)
	w.submit(item(1, s.queueRow(1)))
	<-begun
	s.bus.Stop()
	select {
	case err := <-ended:
		require.ErrorIs(t, err, worker.ErrLeaseLost, "a step without a lease queues nothing")
	case <-time.After(timeout):
		t.Fatal("the step goes on without a lease")
	}
	s.bus.Start()
}

func TestDiscardOrderRemovesTheRowUnrun(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	exec := newExecutor(nil)
	for n := range 3 {
		s.order(s.queueRow(n), item(n, 0))
	}
	s.start(exec)
	s.eventually("rows gone", func() bool { return s.rows("omflow_queuedata") == 0 && s.messages(bus.StreamWork) == 0 })
	all, _ := exec.steps()
	require.Zero(t, all)
	require.Zero(t, s.messages(bus.StreamDead))
}

func TestMessageThatCannotBeReadIsMovedToDead(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start(newExecutor(nil))
	for _, subject := range []string{"work.x.y.q1", "work.x.y.z"} {
		_, err := s.c.JS.Publish(t.Context(), subject, []byte("not an item"))
		require.NoError(t, err)
	}
	s.eventually("both dead", func() bool { return s.messages(bus.StreamDead) == 2 && s.messages(bus.StreamWork) == 0 })
	require.Equal(t, "cannot be read", s.dead("dead.x.y.z").Header.Get(bus.HeaderDeadReason))
}

func TestSubmitOverTheBus(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start(newExecutor(nil))
	reply, err := s.c.NC.Request(bus.SubjectSubmit, append(append(item(1, 0), '\n'), item(2, 0)...), timeout)
	require.NoError(t, err)
	require.JSONEq(t, `{"items":[{"id":"o1","queued":true},{"id":"o2","queued":true}]}`, string(reply.Data))
	reply, err = s.c.NC.Request(bus.SubjectSubmit, []byte("{}"), timeout)
	require.NoError(t, err)
	require.Equal(t, "400", reply.Header.Get("Nats-Service-Error-Code"))
}
