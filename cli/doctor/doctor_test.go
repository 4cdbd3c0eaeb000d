package doctor

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/omflow-booster/omflow-booster/agent"
	"github.com/omflow-booster/omflow-booster/broker"
	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/pgtest"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
	"github.com/omflow-booster/omflow-booster/worker"
)

// with is a doctor of a host with these variables, given as NAME=value.
func with(environ ...string) Host {
	return New(environ, []any{&broker.Config{}, &worker.Config{}, &agent.Config{}}, []sqldb.Engine{sqldb.Postgres()},
		func() (*bus.Client, error) { return nil, errors.New("no Booster answers") })
}

// lines are the findings as a person reads them.
func lines(findings []diagnosis.Finding) []string {
	var list []string
	for _, f := range findings {
		line := string(f.Verdict) + " " + f.Check + ": " + f.Detail
		if f.Fix != "" {
			line += " → " + f.Fix
		}
		list = append(list, line)
	}
	return list
}

func TestDoctorEnvironment(t *testing.T) {
	for _, c := range []struct {
		environ string
		want    []string
	}{
		{"HOME=/root", []string{"ok environment: 0 variables set, the others have their defaults"}},
		{"BOOSTER_IP=10.0.0.5 WORKER_SLOTS=4 OMFLOW_HOME=/opt", []string{"ok environment: 3 variables set, the others have their defaults"}},
		{"BOOSTER_PROT=5170", []string{"warn environment: BOOSTER_PROT is set, but no service knows it → did you mean BOOSTER_PORT?"}},
		{"SECOND_BOSTER_IP=1 SECOND_BOOSTERIP=1 WORKER_SOCKETS=x LOGLEVEL=x", []string{
			// without their prefix nobody can tell that they are meant for us
			"warn environment: WORKER_SOCKETS is set, but no service knows it → did you mean WORKER_SOCKET?",
		}},
		{"AGENT_WHATEVER_THIS_IS=1", []string{
			"warn environment: AGENT_WHATEVER_THIS_IS is set, but no service knows it → remove it; `omflow-booster broker --env` lists what " +
				"there is",
		}},
		{"BOOSTER_PORT=high LOG_LEVEL=info", []string{
			`fail environment: BOOSTER_PORT: "high" is not a valid number (digits only) → correct it or unset it for the default`,
		}},
		{"LOG_LEVEL=loud", []string{`fail environment: LOG_LEVEL: "loud" is not known → use debug or info or warn or error`}},
	} {
		t.Run(c.environ, func(t *testing.T) {
			environ := strings.Fields(c.environ)
			t.Setenv("BOOSTER_URL", "")
			for _, pair := range environ { // the services read the process's own
				name, value, _ := strings.Cut(pair, "=")
				t.Setenv(name, value)
			}
			if got := lines(with(environ...).environment(context.Background())); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "abc", 0}, {"", "abc", 3}, {"PROT", "PORT", 2}, {"kitten", "sitting", 3}} {
		if got := distance(c.a, c.b); got != c.want || distance(c.b, c.a) != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestDoctorDatabase(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"":                         "skip database: DATABASE_URL is not set",
		"sqlite:///tmp/db":         "fail database: DATABASE_URL: SQLite is not supported",
		"nonsense":                 "fail database: DATABASE_URL: it is not a URL",
		"postgres://u:secret@[::/": "fail database: ",
		"postgres://u:secret@127.0.0.1:1/db?connect_timeout=1": "fail database: DATABASE_URL: database postgres://u:xxxxx@127.0.0.1:1/db",
	} {
		got := lines(with("DATABASE_URL=" + url).database(context.Background()))
		if len(got) != 1 || !strings.HasPrefix(got[0], want) || strings.Contains(got[0], "secret") {
			t.Errorf("%s: got %q, want %q", url, got, want)
		}
	}
	for _, c := range []struct {
		schema sqldb.Schema
		want   diagnosis.Verdict
	}{
		{sqldb.Schema{Current: 2, Latest: 2}, diagnosis.VerdictOK},
		{sqldb.Schema{Current: 0, Latest: 2}, diagnosis.VerdictWarn},
		{sqldb.Schema{Current: 3, Latest: 2}, diagnosis.VerdictFail},
	} {
		if got := judgeSchema("database", "here", c.schema); got.Verdict != c.want {
			t.Errorf("%+v: %+v", c.schema, got)
		}
	}
}

// The same database, before and after its migration.
func TestDoctorRealDatabase(t *testing.T) {
	t.Parallel()
	url := pgtest.New(t)
	d := with("DATABASE_URL=" + url)
	if got := lines(d.database(t.Context())); len(got) != 1 || !strings.HasPrefix(got[0], "warn database: ") ||
		!strings.Contains(got[0], ": schema 0 of ") {
		t.Errorf("before: %q", got)
	}
	db, err := sqldb.Open(t.Context(), url, d.engines)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := lines(d.database(t.Context())); len(got) != 1 || !strings.HasPrefix(got[0], "ok database: ") ||
		!strings.Contains(got[0], ", schema ") {
		t.Errorf("after: %q", got)
	}
}

// workerThatSays answers as a worker's local API does.
func workerThatSays(health, status string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text := health
		if r.URL.Path == "/v1/status" {
			text = status
		}
		_, _ = w.Write([]byte(text))
	}
}

func TestDoctorWorkerSocket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc // nil: nobody listens
		want   string
	}{
		{
			"healthy", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"booster_connected":true}`)) },
			"ok worker: answers on ",
		},
		{
			"lonely", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"booster_connected":false}`)) },
			"warn worker: answers on ",
		},
		{
			"blind", workerThatSays(`{"booster_connected":true,"accepts_work":true}`, `{"worker":{"database":"no answer"}}`),
			"fail worker: answers on ",
		},
		{"new", workerThatSays(`{"booster_connected":true,"accepts_work":false}`, `{"worker":{"database":"ok"}}`), "warn worker: answers on "},
		{"whole", workerThatSays(`{"booster_connected":true,"accepts_work":true}`, `{"worker":{"database":"ok"}}`), "ok worker: answers on "},
		{"ill", func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "no database", http.StatusServiceUnavailable)
		}, "fail worker: not healthy (503): no database"},
		{"away", nil, "fail worker: WORKER_SOCKET: "},
	} {
		path := filepath.Join(dir, c.name)
		if c.answer != nil {
			listener, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			srv := httptest.NewUnstartedServer(c.answer)
			srv.Listener = listener
			srv.Start()
			defer srv.Close()
		}
		if got := lines(with("WORKER_SOCKET=" + path).workerSocket(context.Background())); len(got) != 1 || !strings.HasPrefix(got[0], c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	stale := filepath.Join(dir, "stale") // left by a worker that was killed
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := lines(with("WORKER_SOCKET=" + stale).workerSocket(context.Background())); !strings.HasPrefix(got[0],
		"fail worker: no answer on ") {
		t.Errorf("stale: %q", got)
	}
}

// What cannot be looked at without a Booster is named all the same.
func TestDoctorNamesWhatNeedsABooster(t *testing.T) {
	t.Parallel()
	got := strings.Join(lines(with().booster(t.Context())), "\n")
	for _, want := range []string{
		"fail booster: no Booster answers", "skip streams: ", "skip patches: ", "skip clock: ", "skip agent: ",
		"skip uploads: ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestDoctorDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	got := lines(with("BOOSTER_DATA_DIR="+dir, "AGENT_DATA_DIR="+dir+"/missing").disk(context.Background()))
	if len(got) != 2 || !strings.HasPrefix(got[0], "warn disk: AGENT_DATA_DIR: ") || !strings.Contains(got[1], "free in "+dir) {
		t.Errorf("%q", got)
	}
	got = lines(with("OMFLOW_HOME=" + dir).disk(context.Background()))
	if len(got) != 1 || !strings.Contains(got[0], "disk: OMFLOW_HOME: ") || !strings.Contains(got[0], "free in "+dir) {
		t.Errorf("%q", got)
	}
}

func TestDoctorPython(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for says, want := range map[string]string{
		"Python 3.7.7":   "ok python: ",
		"Python 3.12.1":  "ok python: ",
		"Python 3.8.0rc": "ok python: ",
		"Python 3.7.6":   "fail python: ",
		"Python 3.6.9":   "fail python: ",
		"Python 2.7.18":  "fail python: ",
		"snake":          "fail python: ",
	} {
		program := filepath.Join(dir, strings.ReplaceAll(says, " ", "-"))
		if err := os.WriteFile(program, []byte("#!/bin/sh\necho '"+says+"'\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		if got := lines(with("OMFLOW_HOME="+dir, "OMFLOW_PYTHON="+program).python(context.Background())); len(got) != 1 ||
			!strings.HasPrefix(got[0], want) {
			t.Errorf("%s: got %q, want %q", says, got, want)
		}
	}
	for _, c := range []struct{ environ, want string }{
		{"X=1", "skip python: OMFLOW_HOME is not set"},
		{"OMFLOW_HOME=" + dir + "/missing", "fail python: OMFLOW_HOME: " + dir + "/missing is not a directory"},
	} {
		if got := lines(with(c.environ).python(context.Background())); !strings.HasPrefix(got[0], c.want) {
			t.Errorf("%s: %q", c.environ, got)
		}
	}
}
