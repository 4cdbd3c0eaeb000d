package runner

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/work"
)

// workerMain is a worker process with one runner in a step that never ends. It prints what the runner reports.
func workerMain() {
	cfg := testConfig("runner")
	p, err := New(cfg, zerolog.New(os.Stderr))
	if err != nil {
		panic(err)
	}
	go func() { _ = p.Run(context.Background()) }()
	s := newStep("deaf", nil)
	s.Put = func(_ context.Context, items []work.Item) ([]work.ID, error) {
		fmt.Println(string(items[0].InputParam))
		return []work.ID{{Source: work.Queue, Row: 1}}, nil
	}
	panic(p.Execute(context.Background(), s))
}

// The runner in this test does not read its standard input, so only the kernel can end it.
func TestRunnerDiesWithItsWorker(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: needs the parent-death signal of Linux")
	}
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), modeVar+"=worker")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	// If the test fails half-way, the worker must not stay behind.
	rescue := time.AfterFunc(timeout, func() { _ = cmd.Process.Kill() })
	defer rescue.Stop()
	line, err := bufio.NewReader(out).ReadBytes('\n')
	require.NoError(t, err)
	pid := pidIn(t, json.RawMessage(line))
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	requireDead(t, pid)
}
