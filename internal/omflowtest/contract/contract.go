// Package contract tests the stand-in OMFLOW Server on one engine: what it promises must hold on each that it runs on,
// else what is counted with it proves nothing.
package contract

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
	"github.com/omflow-booster/omflow-booster/internal/work"
)

// Run runs every test of the contract, each on a new and empty database.
func Run(t *testing.T, engine sqldb.Engine, newDatabase func(t *testing.T) string) {
	for name, test := range map[string]func(t *testing.T, url string, db *sqldb.DB){
		"closes tickets with every step delivered twice":  closesTickets,
		"runs a step once among many at the same time":    runsOnce,
		"changes nothing after the lease":                 keepsLease,
		"crash in the step leaves the row":                crashInStep,
		"crash after the commit leaves effect and row":    crashAfterCommit,
		"fails exactly the steps that faults predict":     failsAsPredicted,
		"server leaves the row when the worker is silent": serverLeavesRow,
		"names the next step in done":                     namesInDone,
		"server crash before the put leaves the row":      serverCrash,
		"counts see what must not be":                     countsSee,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := newDatabase(t)
			db, err := sqldb.Open(t.Context(), url, []sqldb.Engine{engine})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, db.Close()) })
			require.NoError(t, omflowtest.Setup(t.Context(), db))
			test(t, url, db)
		})
	}
}

const lease = time.Minute

// closesTickets plays the Booster: every step is delivered to one runner and then again to another.
func closesTickets(t *testing.T, _ string, db *sqldb.DB) {
	const tickets = 5
	a, b := inProcess(t, db, "a"), inProcess(t, db, "b")
	queue := file(t, db, tickets)
	for n := 0; len(queue) > 0; n++ {
		it := queue[0]
		queue = queue[1:]
		first, second := a, b
		if n%2 == 1 {
			first, second = b, a
		}
		puts, end := first.run(t, it, 1, lease)
		require.Equal(t, "done", end.Op, end.Error)
		queue = append(queue, puts...)
		puts, end = second.run(t, it, 2, lease)
		require.Equal(t, "done", end.Op, end.Error)
		require.Empty(t, puts, "the second delivery found the row gone")
		require.NoError(t, count(t, db).Check())
	}
	require.NoError(t, count(t, db).CheckFinished(tickets))
	shares, err := omflowtest.CountShares(t.Context(), db)
	require.NoError(t, err)
	require.Equal(t, []omflowtest.Share{{Server: "a", Effects: 20}, {Server: "b", Effects: 20}}, shares)
}

func runsOnce(t *testing.T, _ string, db *sqldb.DB) {
	it := file(t, db, 1)[0]
	var all sync.WaitGroup
	var mu sync.Mutex
	var put []work.Item
	for i := range 8 {
		w := inProcess(t, db, fmt.Sprint(i))
		all.Go(func() {
			puts, end := w.run(t, it, 1, lease)
			mu.Lock()
			defer mu.Unlock()
			put = append(put, puts...)
			if end.Op != "done" { // not require: this is not the goroutine of the test
				t.Errorf("ended with %q: %s", end.Op, end.Error)
			}
		})
	}
	all.Wait()
	require.Len(t, put, 1)
	require.NoError(t, count(t, db).Check())
	require.Equal(t, 1, count(t, db).Effects)
}

// namesInDone: a worker that says so gets the next step with done; to any other it is put.
func namesInDone(t *testing.T, _ string, db *sqldb.DB) {
	it := file(t, db, 1)[0]
	w := inProcess(t, db, "a")
	fields := map[string]any{"attempt": 1, "deadline": time.Now().Add(lease).UnixMilli(), "follow": true}
	puts, end := w.runOf(t, it, fields)
	require.Empty(t, puts)
	require.Equal(t, "done", end.Op)
	require.Len(t, end.Items, 1)
	delete(fields, "follow")
	puts, end = w.runOf(t, end.Items[0], fields)
	require.Len(t, puts, 1)
	require.Equal(t, "done", end.Op)
	require.Empty(t, end.Items)
}

func keepsLease(t *testing.T, _ string, db *sqldb.DB) {
	it := file(t, db, 1)[0]
	before := count(t, db)
	_, end := inProcess(t, db, "late").run(t, it, 1, -time.Millisecond)
	require.Equal(t, "failed", end.Op)
	require.Equal(t, before, count(t, db))
}

func crashInStep(t *testing.T, url string, db *sqldb.DB) {
	it := file(t, db, 1)[0]
	before := count(t, db)
	puts := crash(t, url, it, "OMFLOWTEST_CRASH_IN_STEP=1")
	require.Empty(t, puts)
	require.Equal(t, before, count(t, db), "as if nothing had been")
}

func crashAfterCommit(t *testing.T, url string, db *sqldb.DB) {
	it := file(t, db, 1)[0]
	puts := crash(t, url, it, "OMFLOWTEST_CRASH_AFTER_COMMIT=1")
	require.Empty(t, puts, "the next step is in SQL alone")
	c := count(t, db)
	require.NoError(t, c.Check())
	require.Equal(t, []int{2, 1, 1}, []int{c.Accepted, c.Effects, c.Waiting})
}

// crash runs a step in a real process that dies of it.
func crash(t *testing.T, url string, it work.Item, fault string) []work.Item {
	cmd := program(t, "runner", url, fault)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	puts, end := newWorker(t, in, out).run(t, it, 1, lease)
	require.Empty(t, end.Op, "the runner is dead")
	requireCrash(t, cmd)
	return puts
}

func failsAsPredicted(t *testing.T, url string, db *sqldb.DB) {
	const tickets = 40
	faults := omflowtest.Faults{Seed: 7, Fail: 0.3, Poison: 0.1}
	cmd := program(t, "runner", url, "OMFLOWTEST_SEED=7", "OMFLOWTEST_FAIL=0.3", "OMFLOWTEST_POISON=0.1")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	w := newWorker(t, in, out)
	failed := 0
	for _, it := range file(t, db, tickets) {
		for attempt := 1; attempt <= 2; attempt++ {
			_, end := w.run(t, it, attempt, lease)
			want := "done"
			if faults.Fails(it.Row, attempt) {
				want, failed = "failed", failed+1
			}
			require.Equal(t, want, end.Op, "row %d, attempt %d", it.Row, attempt)
			if want == "done" {
				break
			}
		}
	}
	require.NotZero(t, failed)
	require.NoError(t, count(t, db).Check())
	require.NoError(t, in.Close())
	require.NoError(t, cmd.Wait(), "the end of its input is how a runner is stopped")
}

func serverLeavesRow(t *testing.T, _ string, db *sqldb.DB) {
	// A worker that has no Booster for the first item, and takes the others.
	var got []work.Item
	socket := filepath.Join(t.TempDir(), "w.sock")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	require.NoError(t, err)
	api := &httptest.Server{Listener: l, Config: &http.Server{
		ReadHeaderTimeout: timeout,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var it work.Item
			if json.NewDecoder(r.Body).Decode(&it) == nil {
				got = append(got, it)
			}
			if len(got) == 1 {
				http.Error(w, `{"error":"no Booster"}`, http.StatusServiceUnavailable)
			}
		}),
	}}
	api.Start()
	defer api.Close()

	ctx, stop := context.WithCancel(t.Context())
	s := omflowtest.NewServer(omflowtest.Config{Server: "s", Listen: "127.0.0.1:0", Socket: socket, PutTimeout: timeout}, db, zerolog.Nop(),
		func(int) {})
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	filed := post(t, "http://"+<-s.Ready()+"/file?n=3")
	stop()
	require.NoError(t, <-ended)
	require.Equal(t, omflowtest.Filed{Filed: 3, Queued: 2, Left: 1}, filed)
	require.Len(t, got, 3)
	require.Equal(t, []int64{1, 2, 3}, []int64{got[0].Row, got[1].Row, got[2].Row})
	c := count(t, db)
	require.NoError(t, c.Check())
	require.Equal(t, 3, c.Waiting)
}

func serverCrash(t *testing.T, url string, db *sqldb.DB) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := l.Addr().String()
	require.NoError(t, l.Close())
	cmd := program(t, "server", url, "OMFLOWTEST_LISTEN="+address, "OMFLOWTEST_CRASH_BEFORE_PUT=1", "WORKER_SOCKET=/nowhere.sock")
	require.NoError(t, cmd.Start())
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	require.Eventually(t, func() bool {
		resp, err := client.Get("http://" + address + "/health/") //nolint:noctx // of a test
		if err == nil {
			_ = resp.Body.Close()
		}
		return err == nil
	}, timeout, 20*time.Millisecond)
	_, err = client.Post("http://"+address+"/file?n=3", "", nil) //nolint:noctx,bodyclose // of a test; it fails
	require.Error(t, err)
	requireCrash(t, cmd)
	c := count(t, db)
	require.NoError(t, c.Check())
	require.Equal(t, []int{1, 1}, []int{c.Tickets, c.Waiting})
}

// countsSee makes each thing that must not be, and looks whether Check says so: a check that cannot fail is worth nothing.
func countsSee(t *testing.T, _ string, db *sqldb.DB) {
	queue := file(t, db, 3)
	w := inProcess(t, db, "a")
	_, end := w.run(t, queue[0], 1, lease)
	require.Equal(t, "done", end.Op)
	require.NoError(t, count(t, db).Check())
	require.ErrorContains(t, count(t, db).CheckFinished(3), "1 of 24 steps had their effect")

	effect := `INSERT INTO omflowtest_effect (ticket, step, queue_id, row_id, server, at)
		SELECT ticket, step, queue_id, row_id, 'b', at FROM omflowtest_effect`
	for _, wrong := range []struct{ do, undo, says string }{
		{effect, `DELETE FROM omflowtest_effect WHERE server = 'b'`, "1 effects were applied more than once"},
		{`UPDATE omflowtest_effect SET row_id = 2`, `UPDATE omflowtest_effect SET row_id = 1`, "1 steps have an effect and still a row"},
		{`DELETE FROM omflow_queuedata WHERE id = 2`, ``, "1 accepted steps are lost"},
	} {
		_, err := db.ExecContext(t.Context(), wrong.do)
		require.NoError(t, err)
		require.ErrorContains(t, count(t, db).Check(), wrong.says)
		if wrong.undo != "" {
			_, err = db.ExecContext(t.Context(), wrong.undo)
			require.NoError(t, err)
			require.NoError(t, count(t, db).Check())
		}
	}
}

// file files tickets with a server that no worker listens to, and returns their first steps.
func file(t *testing.T, db *sqldb.DB, tickets int) []work.Item {
	items, err := omflowtest.File(t.Context(), db, "web", tickets)
	require.NoError(t, err)
	return items
}

func count(t *testing.T, db *sqldb.DB) omflowtest.Counts {
	c, err := omflowtest.Count(t.Context(), db)
	require.NoError(t, err)
	return c
}

func post(t *testing.T, url string) (f omflowtest.Filed) {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, nil)
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&f))
	return f
}
