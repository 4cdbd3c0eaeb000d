package worker_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/worker"
)

func TestCordonedWorkerTakesWorkFromItsServerAndRunsNone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	log := &logBuffer{}
	s.log = log
	at := func(server string) func(*worker.Config) { return func(c *worker.Config) { c.Server = server } }
	ran := func(e *executor) int {
		all, _ := e.steps()
		return all
	}
	submit := func(w *running, items ...[]byte) {
		for _, item := range items {
			status, reply, _ := w.submit(item)
			require.Equal(t, http.StatusOK, status, reply)
			require.Contains(t, reply, `"queued":true`)
		}
	}
	hold := make(chan struct{})
	here, there := newExecutor(func(context.Context, worker.Step) error { <-hold; return nil }), newExecutor(nil)

	// It starts while the cordon holds.
	require.NoError(t, bus.SetCordon(t.Context(), s.c.JS, "srv1", bus.Cordon{By: "ann"}))
	one := s.start(here, at("srv1"))
	submit(one, item(1, 0), item(2, 0), item(3, 0))
	two := s.start(there, at("srv2"))
	s.eventually("run elsewhere", func() bool { return s.rows("omflow_booster_outbox") == 0 })
	require.Equal(t, [2]int{0, 3}, [2]int{ran(here), ran(there)})
	two.end()

	// The cordon ends, and comes again while a step runs.
	require.NoError(t, bus.LiftCordon(t.Context(), s.c.JS, "srv1"))
	submit(one, item(4, 0))
	s.eventually("a step runs", func() bool { return ran(here) == 1 })
	require.NoError(t, bus.SetCordon(t.Context(), s.c.JS, "srv1", bus.Cordon{By: "ann"}))
	s.eventually("cordoned again", func() bool { return strings.Count(log.String(), "no more steps are pulled") == 2 })
	submit(one, item(5, 0), item(6, 0))
	close(hold)
	s.eventually("the running step has ended", func() bool { return s.rows("omflow_booster_outbox") == 2 })
	s.start(there, at("srv2"))
	s.eventually("run elsewhere", func() bool { return s.rows("omflow_booster_outbox") == 0 })
	require.Equal(t, [2]int{1, 5}, [2]int{ran(here), ran(there)})
	one.end()
}
