package httpexec

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/leaktest"
	"github.com/omflow-booster/omflow-booster/internal/work"
	"github.com/omflow-booster/omflow-booster/worker"
)

var _ worker.Executor = (*Executor)(nil)

func TestMain(m *testing.M) { leaktest.Main(m) }

const timeout = 20 * time.Second

// serve starts a receiver and an executor that posts to it.
func serve(t *testing.T, cfg Config, h http.HandlerFunc) (*Executor, *httptest.Server) {
	t.Helper()
	receiver := httptest.NewServer(h)
	t.Cleanup(receiver.Close)
	cfg.URL = receiver.URL + "/steps"
	return run(t, cfg), receiver
}

func run(t *testing.T, cfg Config) *Executor {
	t.Helper()
	if cfg.Slots == 0 {
		cfg.Slots = 2
	}
	if cfg.StepTimeout == 0 {
		cfg.StepTimeout = timeout
	}
	e, err := New(cfg, zerolog.Nop())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	select {
	case <-e.Ready():
	case <-time.After(timeout):
		require.FailNow(t, "not ready")
	}
	return e
}

func newStep() worker.Step {
	return worker.Step{
		ID: work.ID{Source: work.Outbox, Row: 12}, Attempt: 3, Kind: "Mail", Ticket: "申請/7",
		Item:  work.Item{Row: 12, Name: "Mail", ModuleName: "m", MethodName: "send", InputParam: json.RawMessage(`{"to":"a<b>"}`)},
		Lease: worker.NewLease(time.Now().Add(time.Minute)),
	}
}

func TestNewValidates(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		"", "127.0.0.1:80", "/steps", "ftp://host/", "http://", "http://:80/", "http://host:port/",
		"http://u:secret@ho st/",
	} {
		_, err := New(Config{URL: bad, Slots: 1, StepTimeout: time.Second}, zerolog.Nop())
		var wrong *config.Error
		require.ErrorAs(t, err, &wrong, bad)
		require.Equal(t, "WORKER_HTTP_URL", wrong.Var)
		require.NotContains(t, err.Error(), "secret")
	}
	_, err := New(Config{URL: "http://host/", StepTimeout: time.Second}, zerolog.Nop())
	require.ErrorContains(t, err, "WORKER_SLOTS")
	_, err = New(Config{URL: "http://host/", Slots: 1}, zerolog.Nop())
	require.ErrorContains(t, err, "WORKER_STEP_TIMEOUT")
}

func TestRequest(t *testing.T) {
	t.Parallel()
	e, _ := serve(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		for name, want := range map[string]string{
			"Content-Type": "application/json", "Idempotency-Key": "booster-outbox-12",
			"Work-Id": "o12", "Work-Kind": "Mail", "Work-Key": "申請/7", "Work-Attempt": "3",
		} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		want, _ := newStep().Item.Encode()
		if r.Method != http.MethodPost || r.URL.Path != "/steps" || string(body) != string(want) {
			t.Errorf("got %s %s %s", r.Method, r.URL, body)
		}
		w.WriteHeader(http.StatusAccepted)
	})
	require.NoError(t, e.Execute(t.Context(), newStep()))
}

func TestHeadersCannotBeInjected(t *testing.T) {
	t.Parallel()
	e, _ := serve(t, Config{}, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Work-Key"); got != "a  Work-Id: q1" {
			t.Errorf("Work-Key is %q", got)
		}
	})
	s := newStep()
	s.Ticket = "a\r\nWork-Id: q1"
	require.NoError(t, e.Execute(t.Context(), s))
}

func TestItemThatCannotBeEncoded(t *testing.T) {
	t.Parallel()
	e := run(t, Config{URL: "http://127.0.0.1:1/"})
	s := newStep()
	s.Item.InputParam = json.RawMessage("{")
	require.ErrorIs(t, e.Execute(t.Context(), s), worker.ErrPermanent)
}

func TestConnectionRefusedCostsAnAttempt(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	e := run(t, Config{URL: "http://user:secret@" + l.Addr().String() + "/"})
	require.NoError(t, l.Close())
	err = e.Execute(t.Context(), newStep())
	require.ErrorContains(t, err, "refused")
	require.NotErrorIs(t, err, worker.ErrNotStarted)
	require.NotErrorIs(t, err, worker.ErrPermanent)
	require.NotContains(t, err.Error(), "secret")
}

func TestAnswerThatIsCutOff(t *testing.T) {
	t.Parallel()
	e, _ := serve(t, Config{}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
	})
	err := e.Execute(t.Context(), newStep())
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.NotErrorIs(t, err, worker.ErrPermanent)
}

// hanging answers nothing before the client is gone.
func hanging(started chan<- struct{}) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server watch the connection
		started <- struct{}{}
		<-r.Context().Done()
	}
}

func TestStepTimeout(t *testing.T) {
	t.Parallel()
	e, _ := serve(t, Config{StepTimeout: 100 * time.Millisecond}, hanging(make(chan struct{}, 1)))
	err := e.Execute(t.Context(), newStep())
	require.ErrorContains(t, err, "no answer within 100ms (WORKER_STEP_TIMEOUT)")
	require.NotErrorIs(t, err, worker.ErrLeaseLost)
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	started := make(chan struct{}, 1)
	e, _ := serve(t, Config{}, hanging(started))
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan error, 1)
	go func() { end <- e.Execute(ctx, newStep()) }()
	<-started
	cancel()
	err := <-end
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, worker.ErrLeaseLost)
}

func TestLease(t *testing.T) {
	t.Parallel()
	started := make(chan struct{}, 1)
	e, _ := serve(t, Config{}, hanging(started))

	passed := newStep()
	passed.Lease = worker.NewLease(time.Now())
	err := e.Execute(t.Context(), passed)
	require.ErrorIs(t, err, worker.ErrLeaseLost)
	require.ErrorIs(t, err, worker.ErrNotStarted)
	require.Empty(t, started, "nothing was posted")

	passing := newStep()
	passing.Lease = worker.NewLease(time.Now().Add(200 * time.Millisecond))
	ctx, cancel := context.WithDeadline(t.Context(), passing.Lease.Deadline()) // as the worker does
	defer cancel()
	err = e.Execute(ctx, passing)
	require.ErrorIs(t, err, worker.ErrLeaseLost)
	require.NotErrorIs(t, err, worker.ErrNotStarted)
}

func TestConnectionsAreReusedAndBounded(t *testing.T) {
	t.Parallel()
	var opened, now, most atomic.Int64
	receiver := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 10_000))
	}))
	receiver.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	receiver.Start()
	t.Cleanup(receiver.Close)
	e := run(t, Config{URL: receiver.URL, Slots: 3})
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			for range 10 {
				if err := e.Execute(t.Context(), newStep()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	require.LessOrEqual(t, most.Load(), int64(3))
	require.LessOrEqual(t, opened.Load(), int64(3), "100 steps need no more connections than slots")
}
