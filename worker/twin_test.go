package worker_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/worker"
	"github.com/omflow-booster/omflow-booster/worker/outbox"
)

func TestSecondWorkerOfANameIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	nop := func(context.Context, worker.Step) error { return nil }
	name := ""
	first := s.start(newExecutor(nop), func(c *worker.Config) { name = c.Name })
	s.eventually("the first worker is among the nodes", func() bool {
		nodes, err := bus.Nodes(t.Context(), s.c.JS)
		return err == nil && len(nodes) == 1
	})
	cfg := worker.Config{
		ClientConfig: s.bus.Config(), DatabaseURL: s.url, Executor: "runner", Slots: 1, Socket: filepath.Join(t.TempDir(), "s"),
		MaxAttempts: 3, RetryBase: time.Second, StepTimeout: time.Minute, StopTimeout: timeout, Reconcile: time.Second, Name: name,
	}
	client := s.bus.Client()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	err := worker.New(cfg, client, outbox.New(s.open()), newExecutor(nop), zerolog.Nop()).Run(ctx)
	var wrong *config.Error
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, "WORKER_NAME", wrong.Var)
	require.Contains(t, wrong.Problem, "is alive at 127.0.0.1")
	first.end() // no error: it goes on
}
