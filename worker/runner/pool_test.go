package runner

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/work"
	"github.com/omflow-booster/omflow-booster/worker"
)

var _ worker.Executor = (*Pool)(nil)

func TestNewValidates(t *testing.T) {
	t.Parallel()
	good := Config{Command: []string{"x"}, Size: 1, StepTimeout: time.Second}
	p, err := New(good, zerolog.Nop())
	require.NoError(t, err, "the program is not looked for yet")
	require.Equal(t, DefaultStartTimeout, p.cfg.StartTimeout)
	require.Equal(t, DefaultStopTimeout, p.cfg.StopTimeout)
	for name, spoil := range map[string]func(*Config){
		"WORKER_RUNNER_COMMAND": func(c *Config) { c.Command = nil },
		"WORKER_SLOTS":          func(c *Config) { c.Size = 0 },
		"WORKER_STEP_TIMEOUT":   func(c *Config) { c.StepTimeout = 0 },
	} {
		bad := good
		spoil(&bad)
		_, err := New(bad, zerolog.Nop())
		var wrong *config.Error
		require.ErrorAs(t, err, &wrong)
		require.Equal(t, name, wrong.Var)
	}
}

func TestRunnersThatNeverBecomeReady(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string]string{
		"never-ready": "did not say that it is ready within 300ms",
		"exit-early":  "exit status 4; last on standard error: no module named omflow",
		"protocol-9":  "speaks protocol 9, this worker speaks 1",
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(mode)
			cfg.StartTimeout = 5 * time.Second // to start a process and read what it says
			if mode == "never-ready" {
				cfg.StartTimeout = 300 * time.Millisecond
			}
			p, log, _ := startPool(t, cfg)
			require.Eventually(t, func() bool { return p.startError() != nil }, timeout, time.Millisecond)
			err := p.Execute(t.Context(), newStep("ok", nil))
			require.ErrorIs(t, err, worker.ErrNotStarted)
			require.ErrorContains(t, err, want)
			require.Contains(t, log.String(), "again_in")
			select {
			case <-p.Ready():
				t.Error("ready without a runner")
			default:
			}
		})
	}
}

func TestProgramThatDoesNotExist(t *testing.T) {
	t.Parallel()
	cfg := testConfig("runner")
	cfg.Command = []string{"/no/such/python"}
	cfg.StartTimeout = 50 * time.Millisecond
	p, _, _ := startPool(t, cfg)
	err := p.Execute(t.Context(), newStep("ok", nil))
	require.ErrorIs(t, err, worker.ErrNotStarted)
	require.ErrorContains(t, err, "/no/such/python")
}

func TestExecuteWithoutRun(t *testing.T) {
	t.Parallel()
	cfg := testConfig("runner")
	cfg.StartTimeout = 10 * time.Millisecond
	p, err := New(cfg, zerolog.Nop())
	require.NoError(t, err)
	require.ErrorIs(t, p.Execute(t.Context(), newStep("ok", nil)), worker.ErrNotStarted)
}

func TestExecuteWhileWaiting(t *testing.T) {
	t.Parallel()
	p, _, _ := startPool(t, testConfig("never-ready"))
	ctx, cancel := context.WithCancel(t.Context())
	end := begin(ctx, p, newStep("ok", nil))
	cancel()
	err := within(t, end, "end")
	require.ErrorIs(t, err, worker.ErrNotStarted)
	require.ErrorIs(t, err, context.Canceled)

	s := newStep("ok", nil)
	s.Lease = worker.NewLease(time.Now())
	err = p.Execute(ctx, s)
	require.ErrorIs(t, err, worker.ErrNotStarted)
	require.ErrorIs(t, err, worker.ErrLeaseLost)
}

func TestNeverMoreStepsThanRunners(t *testing.T) {
	t.Parallel()
	cfg := testConfig("runner")
	cfg.Size = 3
	p, _, _ := startPool(t, cfg)
	var now, most atomic.Int64
	var all sync.WaitGroup
	var once sync.Once
	full := make(chan struct{}) // the first ones wait until there are as many as runners
	for range 15 {
		s := newStep("count", nil)
		s.Put = func(_ context.Context, items []work.Item) ([]work.ID, error) {
			if string(items[0].InputParam) == `"begin"` {
				n := now.Add(1)
				for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
				}
				if n == 3 {
					once.Do(func() { close(full) })
				}
				within(t, full, "all runners at work at the same time")
			} else {
				now.Add(-1)
			}
			return []work.ID{{Source: work.Queue, Row: 1}}, nil
		}
		all.Go(func() {
			if err := p.Execute(t.Context(), s); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 0, now.Load())
	require.EqualValues(t, 3, most.Load(), "no more steps than runners")
}

func TestIdleRunnerThatDiesIsReplaced(t *testing.T) {
	t.Parallel()
	p, _, _ := startPool(t, testConfig("runner"))
	pid := runnerPID(t, p)
	child, err := os.FindProcess(pid)
	require.NoError(t, err)
	require.NoError(t, child.Kill())
	requireDead(t, pid)
	require.Eventually(t, func() bool {
		s := newStep("pid", nil)
		told := reports(&s)
		return p.Execute(t.Context(), s) == nil && pidIn(t, <-told) != pid
	}, timeout, time.Millisecond)
}

func TestStopTellsRunnersByEndOfInput(t *testing.T) {
	t.Parallel()
	marker := filepath.Join(t.TempDir(), "marker")
	cfg := testConfig("runner")
	cfg.Env = append(cfg.Env, "RUNNER_TEST_EOF_MARKER="+marker)
	p, log, stop := startPool(t, cfg)
	pid := runnerPID(t, p)
	stop()
	requireDead(t, pid)
	require.FileExists(t, marker, "the runner was given the time to end by itself")
	require.NotContains(t, log.String(), "killing it")
	require.ErrorIs(t, p.Execute(t.Context(), newStep("ok", nil)), worker.ErrNotStarted)
}

func TestStopKillsWhoDoesNotListen(t *testing.T) {
	t.Parallel()
	cfg := testConfig("runner")
	cfg.StopTimeout = 100 * time.Millisecond
	p, log, stop := startPool(t, cfg)
	s := newStep("deaf", nil)
	told := reports(&s)
	end := begin(t.Context(), p, s)
	pid := pidIn(t, within(t, told, "pid"))
	stop()
	err := within(t, end, "end")
	require.ErrorContains(t, err, "runner-1 was stopped in the step")
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, worker.ErrNotStarted)
	requireDead(t, pid)
	require.Contains(t, log.String(), "killing it")
}

func TestStopBeforeReady(t *testing.T) {
	t.Parallel()
	cfg := testConfig("never-ready")
	cfg.StopTimeout = time.Hour
	_, _, stop := startPool(t, cfg)
	stop() // does not wait for a runner that is not listening yet
}

// A runner dies with the thread that forked it, and Go ends threads when it likes. That cannot be provoked reliably, so
// the test looks at the goroutine that forked: it must hold its thread, and must still be there.
func TestForkingThreadIsHeld(t *testing.T) {
	t.Parallel()
	p, _, _ := startPool(t, testConfig("runner"))
	runnerPID(t, p)
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	owners := 0
	for goroutine := range strings.SplitSeq(string(stacks), "\n\n") {
		if strings.Contains(goroutine, "process.(*Process).own(") && strings.Contains(goroutine, "(*Cmd).Wait(") {
			header, _, _ := strings.Cut(goroutine, "\n")
			require.Contains(t, header, "locked to thread", goroutine)
			owners++
		}
	}
	require.Positive(t, owners)
}

func TestPauseGrowsAndEnds(t *testing.T) {
	t.Parallel()
	for useless, want := range map[int]time.Duration{
		1: firstPause, 2: 2 * firstPause, 5: 16 * firstPause, 8: longestPause,
		1 << 30: longestPause,
	} {
		for range 20 {
			got := pause(useless)
			require.LessOrEqual(t, got, want)
			require.GreaterOrEqual(t, got, want*4/5)
		}
	}
}
