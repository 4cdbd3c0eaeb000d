//go:build linux

package test

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest/fleet"
	"github.com/omflow-booster/omflow-booster/internal/pgtest"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

const timeout = 60 * time.Second // until something that a scenario waits for has happened

// site is a whole installation: a database, a Booster, and OMFLOW Servers (stand-ins) with a worker beside each. A scenario
// begins with startSite, lets something happen while people file tickets, and ends with finish, which counts.
type site struct {
	t        *testing.T
	random   *rand.Rand
	vars     env    // of every process
	database string // URL
	db       *sqldb.DB
	booster  *booster
	servers  []*server
	load     *fleet.Feed // people who file tickets, once there are some

	serversFail bool // the scenario keeps servers from answering, so a request to file a ticket may fail
}

// server is one OMFLOW Server: either web process and worker by themselves, or both below an agent.
type server struct {
	name   string
	url    string
	home   string
	web    *process
	worker *worker
	agent  *agent
}

// haste makes an installation try again sooner than people would want.
var haste = env{
	"WORKER_RECONCILE": "200ms", "WORKER_RETRY_BASE": "100ms", "WORKER_SLOTS": "2",
	"AGENT_RESTART_MIN": "100ms", "AGENT_RESTART_MAX": "200ms", "AGENT_HEALTH_INTERVAL": "50ms", "AGENT_SETTLE": "100ms",
	"AGENT_PATCH_RETRY":    "50ms",
	"AGENT_PATCH_INTERVAL": "1s",
	"OMFLOWTEST_STEP_MIN":  "1ms", "OMFLOWTEST_STEP_MAX": "20ms",
}

// startSite starts a Booster and this many OMFLOW Servers, each with a worker.
func startSite(t *testing.T, servers int, vars env) *site {
	t.Helper()
	s := prepareSite(t, vars)
	for i := range servers {
		s.servers = append(s.servers, s.startServer("server-"+strconv.Itoa(i+1)))
	}
	return s
}

// prepareSite starts a Booster and no OMFLOW Server yet.
func prepareSite(t *testing.T, vars env) *site {
	t.Helper()
	s := emptySite(t, vars)
	s.booster = startBooster(t, s.vars)
	return s
}

// emptySite is a database, and nothing that runs.
func emptySite(t *testing.T, vars env) *site {
	t.Helper()
	s := &site{t: t, random: random(t), vars: merge(haste, vars), database: pgtest.New(t)}
	s.db = openDatabase(t, s.database)
	if err := omflowtest.Setup(t.Context(), s.db); err != nil {
		t.Fatal(err)
	}
	return s
}

func openDatabase(t testing.TB, url string) *sqldb.DB {
	t.Helper()
	db, err := sqldb.Open(t.Context(), url, []sqldb.Engine{sqldb.Postgres()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// random is the dice of one test. Equal seeds throw the same, but processes go on beside: it repeats most of a run, not all.
func random(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("TEST_SEED: %s", err)
		}
	}
	t.Logf("TEST_SEED=%d", seed)
	name := fnv.New64a()
	_, _ = name.Write([]byte(t.Name()))
	return rand.New(rand.NewPCG(seed, name.Sum64()))
}

// some is a number from low to high.
func (s *site) some(low, high int) int { return low + s.random.IntN(high-low+1) }

// any is one of the servers.
func (s *site) any() *server { return s.servers[s.random.IntN(len(s.servers))] }

// seedThat finds a seed for the faults of the stand-in with which something happens, so that a scenario never runs without
// what it is about.
func (s *site) seedThat(faults omflowtest.Faults, happens func(omflowtest.Faults) bool) int64 {
	for faults.Seed = s.random.Int64N(1 << 40); !happens(faults); faults.Seed++ {
	}
	return faults.Seed
}

// startServer starts a worker and the web process beside it.
func (s *site) startServer(name string) *server {
	s.t.Helper()
	srv := &server{name: name}
	srv.worker = startWorker(s.t, name, s.booster, merge(s.serverEnv(srv), env{"WORKER_RUNNER_COMMAND": "'" + standIn + "' runner"}))
	srv.web = start(s.t, name+"-web", merge(s.serverEnv(srv), env{"WORKER_SOCKET": srv.worker.socket}), standIn, "server")
	srv.web.ready(srv.healthy)
	return srv
}

// startUnderAgent starts an agent on a home of the given version, or an empty one; the agent starts the web process and the worker.
func (s *site) startUnderAgent(name, version string, vars env) *server {
	s.t.Helper()
	srv := &server{name: name, home: dir(s.t)}
	if listen := vars["OMFLOWTEST_LISTEN"]; listen != "" { // not on this host
		srv.url = "http://" + listen
	}
	if version != "" {
		writeFiles(s.t, srv.home, map[string]string{omflowtest.VersionFile: "version=" + version + "\n"})
	}
	srv.agent = startAgent(s.t, name, s.booster, srv.home, merge(s.serverEnv(srv), env{
		"WORKER_SOCKET":         filepath.Join(dir(s.t), "worker.sock"),
		"WORKER_RUNNER_COMMAND": "'" + standIn + "' runner",
		"OMFLOW_COMMAND":        "'" + standIn + "' server",
		"OMFLOW_HEALTH_URL":     srv.url + "/health/",
	}, vars))
	testkit.Await(s.t, startTimeout, name+" to answer", srv.healthy)
	return srv
}

// serverEnv is what all processes of a server share. It chooses the server's address the first time.
func (s *site) serverEnv(srv *server) env {
	if srv.url == "" {
		srv.url = "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(testkit.FreePort(s.t)))
	}
	return merge(s.vars, env{
		"DATABASE_URL": s.database, "OMFLOWTEST_SERVER": srv.name, "OMFLOWTEST_LISTEN": srv.url[len("http://"):],
	})
}

func (srv *server) healthy(ctx context.Context) error {
	_, err := srv.webServer().Version(ctx, client)
	return err
}

// stop ends a server as an administrator does.
func (srv *server) stop() {
	if srv.agent != nil {
		srv.agent.stop()
		return
	}
	srv.worker.stop()
	srv.web.stop()
}

// file files tickets through the first server, one after the other.
func (s *site) file(tickets int) {
	s.t.Helper()
	filed, err := s.servers[0].webServer().File(s.t.Context(), client, tickets)
	if err != nil || filed != tickets {
		s.t.Fatalf("%d of %d tickets filed: %v", filed, tickets, err)
	}
}

// afterSteps returns when this many more steps have had their effect.
func (s *site) afterSteps(n int) {
	s.t.Helper()
	s.after(n, "steps", `SELECT count(*) FROM omflowtest_effect`)
}

// afterTickets returns when this many more tickets were filed.
func (s *site) afterTickets(n int) {
	s.t.Helper()
	s.after(n, "tickets", `SELECT count(*) FROM omflowtest_ticket`)
}

func (s *site) after(n int, what, query string) {
	s.t.Helper()
	first := -1
	testkit.Await(s.t, timeout, fmt.Sprintf("%d more %s", n, what), func(ctx context.Context) error {
		now, err := s.count(ctx, query)
		if err != nil {
			return err
		}
		if first < 0 {
			first = now
		}
		if now < first+n {
			return fmt.Errorf("%d so far", now-first)
		}
		return nil
	})
}

// count asks the database for one number.
func (s *site) count(ctx context.Context, query string, args ...any) (n int, err error) {
	return n, s.db.GetContext(ctx, &n, query, args...)
}

// must is count for numbers that can be had at once.
func (s *site) must(query string, args ...any) int {
	s.t.Helper()
	n, err := s.count(s.t.Context(), query, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// writeFiles writes files below a directory, by their paths with forward slashes.
func writeFiles(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
