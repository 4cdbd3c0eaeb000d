package runner

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/work"
	"github.com/omflow-booster/omflow-booster/worker"
)

const timeout = 20 * time.Second // for things that take milliseconds on an idle machine

// logBuffer collects the log of a pool.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// testConfig runs this test binary as the runner.
func testConfig(mode string) Config {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return Config{
		Command:      []string{exe},
		Env:          []string{modeVar + "=" + mode, "GOTRACEBACK=none", "GORACE=atexit_sleep_ms=0"},
		Size:         1,
		StepTimeout:  time.Minute,
		StartTimeout: timeout,
		StopTimeout:  5 * time.Second,
	}
}

// startPool runs a pool until the test ends, or stop is called, and checks that Run ends well.
func startPool(t testing.TB, cfg Config) (p *Pool, log *logBuffer, stop func()) {
	t.Helper()
	log = &logBuffer{}
	p, err := New(cfg, zerolog.New(log))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			require.NoError(t, err)
		case <-time.After(timeout):
			t.Error("Run did not end")
		}
	})
	t.Cleanup(stop)
	return p, log, stop
}

// within fails the test if c does not deliver.
func within[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(timeout):
		require.FailNow(t, "timed out", what)
		panic("unreachable")
	}
}

var lastRow atomic.Int64

// newStep returns a step that makes the test runner do method.
func newStep(method string, param any) worker.Step {
	raw, err := json.Marshal(param)
	if err != nil {
		panic(err)
	}
	row := lastRow.Add(1)
	return worker.Step{
		ID: work.ID{Source: work.Queue, Row: row}, Attempt: 1, Kind: "Test", Ticket: "flow/1",
		Item:  work.Item{Row: row, QueueID: "x", Name: "Test", ModuleName: "test", MethodName: method, InputParam: raw},
		Lease: worker.NewLease(time.Now().Add(time.Minute)),
		Put: func(context.Context, []work.Item) ([]work.ID, error) {
			return []work.ID{{Source: work.Queue, Row: 1}}, nil
		},
	}
}

// reports is what a runner tells the test in a step: the input_param of every item that it puts.
func reports(s *worker.Step) <-chan json.RawMessage {
	c := make(chan json.RawMessage, 16)
	s.Put = func(_ context.Context, items []work.Item) ([]work.ID, error) {
		c <- items[0].InputParam
		return []work.ID{{Source: work.Queue, Row: 1}}, nil
	}
	return c
}

// begin executes a step in the background.
func begin(ctx context.Context, p *Pool, s worker.Step) <-chan error {
	c := make(chan error, 1)
	go func() { c <- p.Execute(ctx, s) }()
	return c
}

func pidIn(t testing.TB, report json.RawMessage) int {
	t.Helper()
	var v struct{ PID int }
	require.NoError(t, json.Unmarshal(report, &v))
	require.Positive(t, v.PID)
	return v.PID
}

// runnerPID asks which process serves the next step.
func runnerPID(t testing.TB, p *Pool) int {
	t.Helper()
	s := newStep("pid", nil)
	told := reports(&s)
	require.NoError(t, p.Execute(t.Context(), s))
	return pidIn(t, within(t, told, "pid"))
}

// requireDead waits until a process is gone. A zombie counts: it is up to init to reap an orphan.
func requireDead(t testing.TB, pid int) {
	t.Helper()
	require.Eventually(t, func() bool {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			return os.IsNotExist(err)
		}
		_, state, _ := bytes.Cut(stat, []byte(") "))
		return bytes.HasPrefix(state, []byte("Z"))
	}, timeout, 5*time.Millisecond, "process %d still runs", pid)
}
