package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
	"github.com/omflow-booster/omflow-booster/internal/pgtest"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
	"github.com/omflow-booster/omflow-booster/worker"
	"github.com/omflow-booster/omflow-booster/worker/outbox"
)

const timeout = 30 * time.Second

// site is a database and a bus on which a test runs workers.
type site struct {
	t   testing.TB
	url string
	db  *sqldb.DB
	bus *bustest.Bus
	c   *bus.Client
	log io.Writer // of workers; nil: the test's
}

// logBuffer collects the log of a worker.
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

func newSite(t testing.TB, change ...func(*bus.Layout)) *site {
	t.Helper()
	layout := bustest.Layout()
	for _, f := range change {
		f(&layout)
	}
	s := &site{t: t, url: pgtest.New(t), bus: bustest.New(t, layout)}
	pgtest.OMFLOWTables(t, s.url)
	s.db = s.open()
	s.c = s.bus.Client()
	_, err := s.db.Migrate(t.Context())
	require.NoError(t, err)
	return s
}

func (s *site) open() *sqldb.DB {
	s.t.Helper()
	db, err := sqldb.Open(s.t.Context(), s.url, []sqldb.Engine{sqldb.Postgres()})
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = db.Close() })
	return db
}

// queueRow inserts a row as the OMFLOW Server does and returns its primary key.
func (s *site) queueRow(n int) int64 {
	s.t.Helper()
	var id int64
	err := s.db.Get(&id, `INSERT INTO omflow_queuedata (queue_id, name, module_name, method_name, input_param)
		VALUES ($1, 'FormFlow', 'omformflow.production.f1.1.main', 'main', $2) RETURNING id`,
		fmt.Sprintf("q%d", n), fmt.Sprintf(`{"flow_uuid":"f1","data_no":%d}`, n))
	require.NoError(s.t, err)
	return id
}

func (s *site) rows(table string) (n int) {
	s.t.Helper()
	require.NoError(s.t, sqlx.Get(s.db, &n, "SELECT count(*) FROM "+table))
	return n
}

// messages counts a stream; while the bus is away it answers with unknown.
func (s *site) messages(stream string) uint64 {
	s.t.Helper()
	st, err := s.c.JS.Stream(s.t.Context(), stream)
	if err != nil {
		return unknown
	}
	return st.CachedInfo().State.Msgs
}

const unknown = 1 << 40

func (s *site) dead(subject string) *jetstream.RawStreamMsg {
	s.t.Helper()
	st, err := s.c.JS.Stream(s.t.Context(), bus.StreamDead)
	require.NoError(s.t, err)
	msg, err := st.GetLastMsgForSubject(s.t.Context(), subject)
	require.NoError(s.t, err)
	return msg
}

func (s *site) eventually(what string, ok func() bool) {
	s.t.Helper()
	testkit.Eventually(s.t, what, ok)
}

// closeDatabase ends every connection to the database and lets nobody in until reopen is called.
func (s *site) closeDatabase() (reopen func()) {
	s.t.Helper()
	u, err := url.Parse(s.url)
	require.NoError(s.t, err)
	name := strings.TrimPrefix(u.Path, "/")
	admin := os.Getenv(pgtest.Env)
	pgtest.Exec(s.t, admin, "ALTER DATABASE "+name+" ALLOW_CONNECTIONS false")
	pgtest.Exec(s.t, admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
	return func() { pgtest.Exec(s.t, admin, "ALTER DATABASE "+name+" ALLOW_CONNECTIONS true") }
}

// running is a worker of a test.
type running struct {
	t      testing.TB
	socket string
	http   *http.Client
	stop   context.CancelFunc
	ended  chan error
}

// start runs a worker until the test ends or stop is called. It is ready, if there is a Booster.
func (s *site) start(exec worker.Executor, change ...func(*worker.Config)) *running {
	s.t.Helper()
	r, ready := s.launch(exec, change...)
	if s.c.NC.IsConnected() {
		select {
		case <-ready:
		case <-time.After(timeout):
			s.t.Fatal("worker does not become ready")
		}
	}
	return r
}

// socket is a path for the local API of a worker.
func (s *site) socket() string {
	s.t.Helper()
	dir, err := os.MkdirTemp("", "w") // a socket's path is short
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// launch is start, for a worker that may not become ready.
func (s *site) launch(exec worker.Executor, change ...func(*worker.Config)) (*running, <-chan struct{}) {
	s.t.Helper()
	cfg := worker.Config{
		ClientConfig: s.bus.Config(), DatabaseURL: s.url, Executor: "runner", Slots: 4, Socket: s.socket(),
		MaxAttempts: 3, RetryBase: 20 * time.Millisecond, StepTimeout: time.Minute, StopTimeout: 10 * time.Second,
		Reconcile: 200 * time.Millisecond,
	}
	cfg.Name = "w-" + filepath.Base(filepath.Dir(cfg.Socket))
	for _, f := range change {
		f(&cfg)
	}
	client, err := bus.Connect(cfg.ClientConfig, cfg.Name, zerolog.Nop())
	require.NoError(s.t, err)
	var log io.Writer = zerolog.NewTestWriter(s.t)
	if s.log != nil {
		log = s.log
	}
	w := worker.New(cfg, client, outbox.New(s.open()), exec, zerolog.New(log).Level(zerolog.InfoLevel))
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: s.t, socket: cfg.Socket, stop: cancel, ended: make(chan error, 1)}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", cfg.Socket)
	}}
	r.http = &http.Client{Transport: transport, Timeout: timeout}
	go func() {
		err := w.Run(ctx)
		client.Close()
		transport.CloseIdleConnections()
		r.ended <- err
	}()
	s.t.Cleanup(func() { r.end() })
	return r, w.Ready()
}

// end stops the worker and checks that it stopped as asked.
func (r *running) end() {
	r.t.Helper()
	r.stop()
	select {
	case err, open := <-r.ended:
		if open {
			require.NoError(r.t, err)
			close(r.ended)
		}
	case <-time.After(timeout):
		r.t.Fatal("worker does not stop")
	}
}

// submit posts a body to the local API.
func (r *running) submit(body []byte) (status int, reply string, header http.Header) {
	r.t.Helper()
	resp, err := r.http.Post("http://worker/v1/items", "application/json", bytes.NewReader(body))
	require.NoError(r.t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(r.t, err)
	return resp.StatusCode, string(text), resp.Header
}

// item is an item of a test, as queueRow stores it; row 0 means that it has none.
func item(n int, row int64) []byte {
	m := map[string]any{
		"queue_id": fmt.Sprintf("q%d", n), "name": "FormFlow", "module_name": "omformflow.production.f1.1.main", "method_name": "main",
		"input_param": map[string]any{"flow_uuid": "f1", "data_no": n},
	}
	if row > 0 {
		m["row"] = row
	}
	data, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return data
}

// executor is a function that runs steps and what it saw.
type executor struct {
	run func(ctx context.Context, s worker.Step) error

	mu       sync.Mutex
	runs     map[string]int
	attempts map[string][]int
	now, top atomic.Int32
	readyCh  chan struct{}
}

func newExecutor(run func(ctx context.Context, s worker.Step) error) *executor {
	e := &executor{run: run, runs: map[string]int{}, attempts: map[string][]int{}, readyCh: make(chan struct{})}
	close(e.readyCh)
	return e
}

func (e *executor) Execute(ctx context.Context, s worker.Step) error {
	now := e.now.Add(1)
	defer e.now.Add(-1)
	for top := e.top.Load(); now > top && !e.top.CompareAndSwap(top, now); top = e.top.Load() {
	}
	e.mu.Lock()
	e.runs[s.ID.String()]++
	e.attempts[s.ID.String()] = append(e.attempts[s.ID.String()], s.Attempt)
	e.mu.Unlock()
	if e.run == nil {
		return nil
	}
	return e.run(ctx, s)
}

func (e *executor) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (e *executor) Ready() <-chan struct{}        { return e.readyCh }

// attemptsOf returns the attempts of a step in the order in which they ran.
func (e *executor) attemptsOf(id string) []int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]int(nil), e.attempts[id]...)
}

// steps returns how many steps ran, and how many of them more than once.
func (e *executor) steps() (all, repeated int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range e.runs {
		if n > 1 {
			repeated++
		}
	}
	return len(e.runs), repeated
}
