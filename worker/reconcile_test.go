package worker_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/worker"
)

// orphans are entries of DEAD whose rows are gone.
func (s *site) orphans(n int) {
	s.t.Helper()
	for i := range n {
		_, err := s.c.JS.Publish(s.t.Context(), bus.DeadSubject("FormFlow", "f1", fmt.Sprintf("q%d", 1_000_000+i)), item(i, 0))
		require.NoError(s.t, err)
	}
}

// holding is an executor whose steps wait until their context ends.
func holding() *executor {
	return newExecutor(func(ctx context.Context, _ worker.Step) error { <-ctx.Done(); return ctx.Err() })
}

func oneSlot(c *worker.Config) { c.Slots, c.StopTimeout = 1, time.Millisecond }

// lose removes the message of a row from WORK.
func (s *site) lose(row int64) {
	s.t.Helper()
	work, err := s.c.JS.Stream(s.t.Context(), bus.StreamWork)
	require.NoError(s.t, err)
	m, err := work.GetLastMsgForSubject(s.t.Context(), bus.WorkSubject("FormFlow", "f1", fmt.Sprintf("q%d", row)))
	require.NoError(s.t, err)
	require.NoError(s.t, work.DeleteMsg(s.t.Context(), m.Sequence))
}

// Dead entries without a row, and work that came since, make the numbers come out right.
func TestLossThatTheNumbersHideIsFound(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.orphans(5)
	var last int64
	for n := range 20 {
		last = s.queueRow(n)
	}
	s.start(holding(), oneSlot)
	s.eventually("queued", func() bool { return s.messages(bus.StreamWork) == 20 })
	for i := range 5 { // fresh messages of others
		_, err := s.c.JS.Publish(t.Context(), bus.WorkSubject("FormFlow", "f1", fmt.Sprintf("q%d", 2_000_000+i)), item(i, 0))
		require.NoError(t, err)
	}
	s.lose(last)
	s.eventually("queued again", func() bool { return s.messages(bus.StreamWork) == 25 })
	work, err := s.c.JS.Stream(t.Context(), bus.StreamWork)
	require.NoError(t, err)
	_, err = work.GetLastMsgForSubject(t.Context(), bus.WorkSubject("FormFlow", "f1", fmt.Sprintf("q%d", last)))
	require.NoError(t, err)
}

// `dead retry` of a row that could not be carried: with its entry gone, the reconciler must look at it again.
func TestRowIsLookedAtWhenSomebodyAsks(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.orphans(1)
	s.db.MustExec(
		`INSERT INTO omflow_queuedata (queue_id, name, module_name, method_name, input_param) VALUES ('q', 'FormFlow', '', 'main', '{}')`)
	s.start(newExecutor(nil))
	s.eventually("dead", func() bool { return s.messages(bus.StreamDead) == 2 })
	s.db.MustExec(`UPDATE omflow_queuedata SET module_name = 'm'`)
	subject := "dead.formflow.-.q1"
	dead, err := s.c.JS.Stream(t.Context(), bus.StreamDead)
	require.NoError(t, err)
	require.NoError(t, dead.DeleteMsg(t.Context(), s.dead(subject).Sequence))
	_, err = s.c.NC.Request("worker.prove", []byte("q1 q2 nonsense"), timeout)
	require.NoError(t, err, "the reconciler hears it")
	s.eventually("it runs", func() bool { return s.rows("omflow_queuedata") == 0 })
}

// Rows are looked for in DEAD only if DEAD names them.
func TestRefillAsksOnlyForTheDead(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.orphans(3)
	for n := range 300 {
		s.queueRow(n)
	}
	row := s.queueRow(300)
	_, err := s.c.JS.Publish(t.Context(), bus.DeadSubject("FormFlow", "f1", fmt.Sprintf("q%d", row)), item(300, row))
	require.NoError(t, err)
	var asked atomic.Int32
	count := func(*nats.Msg) { asked.Add(1) }
	for _, subject := range []string{"$JS.API.DIRECT.GET.DEAD.>", "$JS.API.STREAM.MSG.GET.DEAD"} {
		_, err := s.c.NC.Subscribe(subject, count)
		require.NoError(t, err)
	}
	require.NoError(t, s.c.NC.Flush())
	s.start(holding(), oneSlot, func(c *worker.Config) { c.Reconcile = time.Second })
	s.eventually("refilled", func() bool { return s.messages(bus.StreamWork) == 300 })
	require.Less(t, asked.Load(), int32(20), "the dead one, and the step that runs")
	require.EqualValues(t, 4, s.messages(bus.StreamDead), "it stays dead")
}
