//go:build linux

package test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/pgtest"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

// Steps come by both ways, as rows of the OMFLOW Server and through the local API, while every service is restarted.
func TestStepsAreDoneOnceOverRestarts(t *testing.T) {
	t.Parallel()
	database := pgtest.New(t)
	pgtest.OMFLOWTables(t, database)
	steps := startReceiver(t)
	b := startBooster(t, nil)
	w := startWorker(t, "worker-1", b, merge(steps.env(), env{"DATABASE_URL": database, "WORKER_RECONCILE": "200ms"}))

	sent := 0
	row := func() {
		t.Helper()
		pgtest.Exec(t, database, `INSERT INTO omflow_queuedata (queue_id, name, module_name, method_name, input_param)
			SELECT 'f' || n, 'FormFlow', 'm', 'main', '{"flow_uuid": "f", "data_no": ' || n || '}' FROM generate_series(1, 20) n`)
		sent += 20
	}
	submit := func() {
		t.Helper()
		lines := strings.Repeat(`{"queue_id": "q", "name": "FormFlow", "module_name": "m", "method_name": "main", "input_param": {}}`+"\n", 20)
		testkit.Await(t, startTimeout, "the worker to know whose steps the Booster carries", func(ctx context.Context) error {
			status, answer, err := w.call(ctx, http.MethodPost, "/v1/items", []byte(lines))
			if err == nil && status == http.StatusServiceUnavailable { // nothing was taken
				return fmt.Errorf("%s", answer)
			}
			if err != nil || status != http.StatusOK {
				t.Fatalf("submit: %d %s %v", status, answer, err)
			}
			return nil
		})
		sent += 20
	}
	done := func() {
		t.Helper()
		testkit.Await(t, startTimeout, "every step to be done", func(context.Context) error {
			if n := steps.effects(); n != sent {
				return fmt.Errorf("%d of %d", n, sent)
			}
			return nil
		})
	}

	row()
	submit()
	done()

	w.kill() // rows that come meanwhile wait for it
	row()
	w.restart()
	submit()
	done()

	b.stop() // the worker goes on and takes steps from the database when the Booster is back
	row()
	b.restart()
	done()

	w.stop()
	b.stop()
	if n := steps.repeated(); n != 0 {
		t.Errorf("%d deliveries too many, though nothing was killed while a step ran", n)
	}
}

// A receiver that is overloaded gets the step again, and has its effect once.
func TestRefusedStepIsTriedAgain(t *testing.T) {
	t.Parallel()
	database := pgtest.New(t)
	pgtest.OMFLOWTables(t, database)
	steps := startReceiver(t)
	steps.answering(func(r *http.Request) int {
		if r.Header.Get("Work-Attempt") == "1" {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	b := startBooster(t, nil)
	w := startWorker(t, "worker-1", b, merge(steps.env(), env{"DATABASE_URL": database, "WORKER_RETRY_BASE": "100ms"}))
	w.accepting()
	item := []byte(`{"queue_id": "q", "name": "FormFlow", "module_name": "m", "method_name": "main", "input_param": {}}`)
	if status, answer, err := w.call(t.Context(), http.MethodPost, "/v1/items", item); err != nil || status != http.StatusOK {
		t.Fatalf("submit: %d %s %v", status, answer, err)
	}
	testkit.Await(t, startTimeout, "the second try", func(context.Context) error {
		if steps.effects() != 1 {
			return errors.New("not done")
		}
		return nil
	})
}

// An agent starts what dies beside it, and its worker serves again; when the agent is stopped nothing is left.
func TestAgentStartsAgainWhatDies(t *testing.T) {
	t.Parallel()
	database := pgtest.New(t)
	pgtest.OMFLOWTables(t, database)
	steps := startReceiver(t)
	b := startBooster(t, nil)
	a := startAgent(t, "agent-1", b, dir(t), merge(steps.env(), env{
		"DATABASE_URL":      database,
		"WORKER_SOCKET":     filepath.Join(dir(t), "worker.sock"),
		"WORKER_RECONCILE":  "200ms",
		"OMFLOW_COMMAND":    "sleep 600",
		"AGENT_PROVISION":   "off", // its home is empty, and it runs all the same
		"AGENT_RESTART_MIN": "100ms",
	}))
	first := a.running(bus.AgentState{})
	a.signal(first.ServerPID, syscall.SIGKILL)
	a.signal(first.WorkerPID, syscall.SIGKILL)
	second := a.running(first)
	a.killAll() // the host loses power
	a.restart()
	a.running(second)

	pgtest.Exec(t, database, `INSERT INTO omflow_queuedata (queue_id, name, module_name, method_name, input_param)
		VALUES ('q', 'FormFlow', 'm', 'main', '{}')`)
	testkit.Await(t, startTimeout, "the new worker to do a step", func(context.Context) error {
		if steps.effects() != 1 {
			return errors.New("not done")
		}
		return nil
	})
	if code, out := command(t, b, "status"); !strings.Contains(out, "agent-1") {
		t.Errorf("status (code %d) does not know the agent:\n%s", code, out)
	}
	a.stop()
}
