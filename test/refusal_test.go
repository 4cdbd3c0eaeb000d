//go:build linux

package test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/omflow-booster/omflow-booster/internal/pgtest"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
	"github.com/omflow-booster/omflow-booster/internal/work"
)

// refusal is a command line that must be refused: exit code, and one line on standard error that says all of these.
type refusal struct {
	args  string // separated by blanks
	vars  env
	input string
	code  int
	says  []string
	logs  bool // it connects to a Booster before it is refused, and logs that: what counts is the line after it
}

// secret is the password in every database URL here.
const secret = "open-sesame"

var logLine = regexp.MustCompile(`(?m)^\{"level":"info".*\n`)

func (r refusal) check(t *testing.T) {
	t.Helper()
	got := ask(t, r.vars, r.input, strings.Fields(r.args)...)
	if got.code != r.code {
		t.Errorf("exit code %d, want %d", got.code, r.code)
	}
	said := got.stderr
	if r.logs {
		said = logLine.ReplaceAllString(said, "")
	}
	if !strings.HasPrefix(said, "omflow-booster: ") || strings.Count(said, "\n") != 1 || !strings.HasSuffix(said, "\n") {
		t.Errorf("standard error is not one line that names the program:\n%s", got.stderr)
	}
	for _, part := range r.says {
		if !strings.Contains(said, part) {
			t.Errorf("standard error does not say %q:\n%s", part, said)
		}
	}
	if strings.Contains(got.stderr, secret) {
		t.Errorf("the password is shown:\n%s", got.stderr)
	}
	if got.stdout != "" {
		t.Errorf("standard output is for results:\n%s", got.stdout)
	}
}

// Nothing of this needs anything but the program.
func TestWrongSettingsAreRefused(t *testing.T) { //nolint:funlen // a table is as long as its rows
	t.Parallel()
	home := dir(t)
	file := filepath.Join(home, "file")
	writeFiles(t, home, map[string]string{"file": "in the way"})
	below := filepath.Join(file, "below") // not even root can make this
	nobody := env{
		"BOOSTER_PORT":     strconv.Itoa(testkit.FreePort(t)),                    // a Booster may run at the default port of this very machine
		"BOOSTER_DATA_DIR": home + "/booster", "AGENT_DATA_DIR": home + "/agent", // and must not be touched by a setting that is taken after all
	}
	const database = "postgres://user:" + secret + "@127.0.0.1:1/omflow"
	item := func(param string) string {
		return `{"name": "FormFlow", "module_name": "m", "method_name": "main", "input_param": ` + param + `}` + "\n"
	}
	for name, r := range map[string]refusal{
		"port is no number":    {args: "broker", vars: env{"BOOSTER_PORT": "x"}, says: []string{"BOOSTER_PORT", `"x"`}},
		"address from Windows": {args: "broker", vars: env{"BOOSTER_IP": "127.0.0.1\r"}, says: []string{"BOOSTER_IP", "carriage return"}},
		"address with a blank": {args: "worker", vars: env{"BOOSTER_IP": "127.0.0.1 "}, says: []string{"BOOSTER_IP", "blank"}},
		"address in quotes":    {args: "broker", vars: env{"BOOSTER_IP": `"127.0.0.1"`}, says: []string{"BOOSTER_IP", "quote"}},
		"address with a port": {
			args: "broker", vars: env{"BOOSTER_IP": "127.0.0.1:5169"},
			says: []string{"BOOSTER_IP", `"127.0.0.1:5169"`, "port"},
		},
		"address is a URL":      {args: "broker", vars: env{"BOOSTER_IP": "nats://127.0.0.1"}, says: []string{"BOOSTER_IP", "URL"}},
		"address is a list":     {args: "status", vars: env{"BOOSTER_IP": "127.0.0.1,127.0.0.2"}, says: []string{"BOOSTER_IP", "several"}},
		"address is none":       {args: "broker", vars: env{"BOOSTER_IP": "10.0.0.256"}, says: []string{"BOOSTER_IP", `"10.0.0.256"`}},
		"address is everything": {args: "broker", vars: env{"BOOSTER_IP": "0.0.0.0"}, says: []string{"BOOSTER_IP", "every address"}},
		"address of another host": {
			args: "broker", vars: env{"BOOSTER_IP": "192.0.2.7", "BOOSTER_DATA_DIR": home + "/b1"},
			says: []string{"BOOSTER_IP", "192.0.2.7 is no address of this host", "BOOSTER_LISTEN"},
		},
		"address to listen on": {
			args: "broker", vars: env{"BOOSTER_IP": "10.0.0.5", "BOOSTER_LISTEN": "eth0"},
			says: []string{"BOOSTER_LISTEN", `"eth0"`},
		},
		"second with a port": {args: "nodes", vars: env{"SECOND_BOOSTER_IP": "[::1]:5169"}, says: []string{"SECOND_BOOSTER_IP", "port"}},
		"the other is a URL": {args: "broker", vars: env{"HA_BOOSTER_IP": "http://10.0.0.6"}, says: []string{"HA_BOOSTER_IP", "URL"}},
		"cluster of http":    {args: "status", vars: env{"BOOSTER_URL": "http://10.0.0.6:4222"}, says: []string{"BOOSTER_URL"}},
		"agent's address":    {args: "agent", vars: env{"AGENT_IP": "10.0.0.0/8", "OMFLOW_HOME": home}, says: []string{"AGENT_IP"}},
		"port from Windows":  {args: "work ls", vars: env{"BOOSTER_PORT": "5169\r"}, says: []string{"BOOSTER_PORT", "carriage return"}},
		"name with a blank":  {args: "broker", vars: env{"BOOSTER_NAME": "my booster"}, says: []string{"BOOSTER_NAME", "blank"}},
		"path with a tilde":  {args: "broker", vars: env{"BOOSTER_DATA_DIR": "~/booster"}, says: []string{"BOOSTER_DATA_DIR", "~/booster"}},
		"join file from Windows": {
			args: "join show", vars: env{"BOOSTER_JOIN_FILE": file + "\r"},
			says: []string{"BOOSTER_JOIN_FILE", "carriage return"},
		},
		"home from Windows": {
			args: "adopt " + home, vars: env{"OMFLOW_HOME": home + "\r"},
			says: []string{"OMFLOW_HOME", "carriage return"},
		},
		"socket is too long": {
			args: "worker", vars: env{"WORKER_SOCKET": "/tmp/" + strings.Repeat("x", 120)},
			says: []string{"WORKER_SOCKET", "too long"},
		},
		"port is out of range":   {args: "broker", vars: env{"BOOSTER_PORT": "70000"}, says: []string{"BOOSTER_PORT", "70000"}},
		"port of the second one": {args: "worker", vars: env{"SECOND_BOOSTER_PORT": "0"}, says: []string{"SECOND_BOOSTER_PORT"}},
		"port for a command":     {args: "status", vars: env{"BOOSTER_PORT": "x"}, says: []string{"BOOSTER_PORT", `"x"`}},
		"sync is not known": {
			args: "broker", vars: env{"BOOSTER_SYNC": "never"},
			says: []string{"BOOSTER_SYNC", `"never"`, "auto, always"},
		},
		"lease has no unit":       {args: "broker", vars: env{"BOOSTER_LEASE": "1"}, says: []string{"BOOSTER_LEASE", `"1"`, "30s"}},
		"lease is too short":      {args: "broker", vars: env{"BOOSTER_LEASE": "10ms"}, says: []string{"BOOSTER_LEASE", "10ms", "1s or more"}},
		"store is too small":      {args: "broker", vars: env{"BOOSTER_STORE_MB": "1"}, says: []string{"BOOSTER_STORE_MB"}},
		"log level is not known":  {args: "broker", vars: env{"LOG_LEVEL": "loud"}, says: []string{"LOG_LEVEL", `"loud"`, "debug or info"}},
		"log format is not known": {args: "agent", vars: env{"LOG_FORMAT": "xml", "OMFLOW_HOME": home}, says: []string{"LOG_FORMAT", `"xml"`}},
		"executor is not known": {
			args: "worker", vars: env{"WORKER_EXECUTOR": "foo"},
			says: []string{"WORKER_EXECUTOR", `"foo"`, "runner or http"},
		},
		"http without a URL": {args: "worker", vars: env{"WORKER_EXECUTOR": "http"}, says: []string{"WORKER_HTTP_URL"}},
		"slots are negative": {args: "worker", vars: env{"WORKER_SLOTS": "-1"}, says: []string{"WORKER_SLOTS"}},
		"no attempt":         {args: "worker", vars: env{"WORKER_MAX_ATTEMPTS": "0"}, says: []string{"WORKER_MAX_ATTEMPTS"}},
		"runner command is cut": {
			args: "worker", vars: env{"WORKER_RUNNER_COMMAND": "'python3", "DATABASE_URL": database},
			says: []string{"WORKER_RUNNER_COMMAND"},
		},
		"agent's worker is maybe": {
			args: "agent", vars: env{"AGENT_WORKER": "maybe", "OMFLOW_HOME": home},
			says: []string{"AGENT_WORKER", `"maybe"`},
		},
		"health URL is none": {
			args: "agent", vars: env{"OMFLOW_HEALTH_URL": "here", "OMFLOW_HOME": home},
			says: []string{"OMFLOW_HEALTH_URL", `"here"`},
		},
		"home is not set":   {args: "agent", says: []string{"OMFLOW_HOME", "not set"}},
		"home is not there": {args: "agent", vars: env{"OMFLOW_HOME": home + "/none"}, says: []string{"OMFLOW_HOME", home + "/none"}},
		"home is a file":    {args: "agent", vars: env{"OMFLOW_HOME": file}, says: []string{"OMFLOW_HOME", "not a directory"}},
		"home of the worker": {
			args: "worker", vars: env{"OMFLOW_HOME": home + "/none", "DATABASE_URL": database},
			says: []string{"OMFLOW_HOME", home + "/none"},
		},
		"Booster cannot write": {
			args: "broker", vars: env{"BOOSTER_DATA_DIR": below, "BOOSTER_PORT": strconv.Itoa(testkit.FreePort(t))},
			says: []string{"BOOSTER_DATA_DIR", file},
		},
		"agent cannot write": {
			args: "agent", vars: env{"AGENT_DATA_DIR": below, "OMFLOW_HOME": home},
			says: []string{"AGENT_DATA_DIR", file},
		},
		"join file is not there": {
			args: "agent", vars: env{"BOOSTER_JOIN_FILE": home + "/none", "OMFLOW_HOME": home},
			says: []string{"BOOSTER_JOIN_FILE", home + "/none"},
		},
		"data in the home": {
			args: "agent", vars: env{"AGENT_DATA_DIR": home + "/agent", "OMFLOW_HOME": home},
			says: []string{"AGENT_DATA_DIR", home + "/agent", "inside OMFLOW_HOME"},
		},
		"socket in the home": {args: "agent", vars: env{
			"AGENT_DATA_DIR": home + "-agent", "WORKER_SOCKET": home + "/worker.sock",
			"OMFLOW_HOME": home,
		}, says: []string{"WORKER_SOCKET", "inside OMFLOW_HOME"}},
		"join file is something": {
			args: "agent", vars: env{"BOOSTER_JOIN_FILE": file, "OMFLOW_HOME": home},
			says: []string{"BOOSTER_JOIN_FILE", file, "not a JSON object"},
		},
		"join file is not set":    {args: "patch publish " + home, says: []string{"BOOSTER_JOIN_FILE", "not set", "join new"}},
		"join file is in the way": {args: "join new --out " + file, says: []string{file, "exists"}},
		"database is not set":     {args: "worker", says: []string{"DATABASE_URL", "not set", "postgres://"}},
		"database is no URL":      {args: "worker", vars: env{"DATABASE_URL": "omflow"}, says: []string{"DATABASE_URL", "not a URL"}},
		"database is broken": {
			args: "worker", vars: env{"DATABASE_URL": "postgres://user:" + secret + "@host:port/omflow"},
			says: []string{"DATABASE_URL", "invalid port"},
		},
		"database is not known": {
			args: "worker", vars: env{"DATABASE_URL": "mongodb://user:" + secret + "@host/omflow"},
			says: []string{"DATABASE_URL", `"mongodb"`},
		},
		"database is MySQL": {
			args: "worker", vars: env{"DATABASE_URL": "mysql://user:" + secret + "@host/omflow"},
			says: []string{"DATABASE_URL", "mysql is not supported by this version"},
		},
		"database is SQLite": {
			args: "worker", vars: env{"DATABASE_URL": "sqlite:///db.omflow"},
			says: []string{"DATABASE_URL", "SQLite is not supported", "one writer on one machine"},
		},
		"migrate on SQLite": {
			args: "migrate", vars: env{"DATABASE_URL": "sqlite:///db.omflow"},
			says: []string{"DATABASE_URL", "SQLite is not supported"},
		},
		"database does not answer": {
			args: "worker", vars: env{"DATABASE_URL": database}, code: 1,
			says: []string{"DATABASE_URL", "127.0.0.1:1", "does not answer"},
		},
		"unknown command":          {args: "frob", says: []string{`"frob"`}},
		"unknown command of work":  {args: "work frob", says: []string{`"frob"`, "work"}},
		"unknown command of dead":  {args: "dead frob", says: []string{`"frob"`, "dead"}},
		"unknown command of patch": {args: "patch frob", says: []string{`"frob"`, "patch"}},
		"unknown flag":             {args: "--frob", says: []string{"--frob", "--help"}},
		"unknown flag of status":   {args: "status --frob", says: []string{"--frob", "status --help"}},
		"unknown flag of broker":   {args: "broker --port 5169", says: []string{"--port", "broker --help"}},
		"a word too many":          {args: "nodes all", says: []string{`"all"`}},
		"a step that is none":      {args: "dead show 17", says: []string{`"17"`, "q<row>"}},
		"which steps":              {args: "dead retry", says: []string{"--all"}},
		"patch of nothing":         {args: "patch publish " + home + "/none", says: []string{home + "/none"}},
		"item is not JSON": {
			args: "work submit", input: item(`{}`) + "nonsense\n",
			says: []string{"line 2", "malformed item", "nothing was submitted"},
		},
		"item lacks a field": {
			args: "work submit", input: `{"name": "FormFlow"}`,
			says: []string{"line 1", "module_name is missing", "nothing was submitted"},
		},
		"item has one too many": {
			args: "work submit", input: `{"nom": "FormFlow"}`,
			says: []string{"line 1", "name is missing", "nothing was submitted"},
		},
		"item is too large": {
			args: "work submit", input: item(`{}`) + item(`"`+strings.Repeat("x", work.MaxItemBytes)+`"`),
			says: []string{"line 2", "oversized item", "nothing was submitted"},
		},
		"item file is not there": {args: "work submit " + home + "/none", says: []string{home + "/none"}},
	} {
		if r.code == 0 {
			r.code = 2
		}
		r.vars = merge(nobody, r.vars)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r.check(t)
		})
	}
}

// What is in the way is somebody else: another process, another version, another password.
func TestPlacesThatAreTakenAreRefused(t *testing.T) {
	t.Parallel()
	database, newer := pgtest.New(t), pgtest.New(t)
	b := startBooster(t, nil)
	steps := startReceiver(t)
	home := dir(t)
	writeFiles(t, home, map[string]string{"file": "in the way"})
	w := startWorker(t, "worker-1", b, merge(steps.env(), env{"DATABASE_URL": database}))
	a := startAgent(t, "agent-1", b, home, env{"AGENT_WORKER": "off"})
	ask(t, env{"DATABASE_URL": newer}, "", "migrate")
	pgtest.Exec(t, newer, `INSERT INTO omflow_booster_schema (version_id, is_applied) VALUES (99, true)`)

	beside := func(vars env) env { return merge(b.env(), steps.env(), env{"DATABASE_URL": database}, vars) }
	other := strconv.Itoa(testkit.FreePort(t))
	for name, r := range map[string]refusal{
		"data directory of a Booster": {
			args: "broker", vars: env{"BOOSTER_PORT": other, "BOOSTER_DATA_DIR": b.vars["BOOSTER_DATA_DIR"]},
			says: []string{"BOOSTER_DATA_DIR", b.vars["BOOSTER_DATA_DIR"], "in use by another Booster"},
		},
		"port of a Booster": {
			args: "broker", vars: env{"BOOSTER_PORT": strconv.Itoa(b.port), "BOOSTER_DATA_DIR": dir(t)},
			says: []string{"BOOSTER_PORT", "taken", fmt.Sprintf("process %d", b.pid())},
		},
		"data directory of an agent": {
			args: "agent",
			vars: merge(b.env(), env{"OMFLOW_HOME": home, "AGENT_DATA_DIR": a.vars["AGENT_DATA_DIR"]}), says: []string{
				"AGENT_DATA_DIR",
				strconv.Itoa(a.pid()),
			}, logs: true,
		},
		"socket of a worker": {
			args: "worker", vars: beside(env{"WORKER_SOCKET": w.socket}),
			says: []string{"WORKER_SOCKET", w.socket, "in use by another worker"}, logs: true,
		},
		"socket below a file": {
			args: "worker", vars: beside(env{"WORKER_SOCKET": filepath.Join(home, "file", "worker.sock")}),
			says: []string{"WORKER_SOCKET", filepath.Join(home, "file")}, logs: true,
		},
		"schema of a newer version": {
			args: "worker", vars: beside(env{"DATABASE_URL": newer}), code: 1,
			says: []string{"newer than this program", "99", "update omflow-booster"},
		},
		"migrate of a newer version": {
			args: "migrate", vars: env{"DATABASE_URL": newer}, code: 1,
			says: []string{"newer than this program", "99", "update omflow-booster"},
		},
		"password is wrong": {
			args: "worker", vars: beside(env{"DATABASE_URL": withPassword(t, database, secret)}), code: 1,
			says: []string{"DATABASE_URL", "does not answer"},
		},
		"migrate with a wrong one": {
			args: "migrate", vars: env{"DATABASE_URL": withPassword(t, database, secret)}, code: 1,
			says: []string{"DATABASE_URL", "does not answer"},
		},
	} {
		if r.code == 0 {
			r.code = 2
		}
		t.Run(name, func(t *testing.T) {
			r.check(t)
		})
	}
	for _, p := range []*process{b.process, w.process, a.process} {
		if !p.running() {
			t.Errorf("%s has not survived that", p.name)
		}
	}
}

func withPassword(t *testing.T, database, password string) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(u.User.Username(), password)
	return u.String()
}

// The local API takes all items of a request or none.
func TestWrongItemsAreRefusedByTheLocalAPI(t *testing.T) {
	t.Parallel()
	s := startSite(t, 1, nil)
	s.servers[0].worker.accepting()
	good := `{"name": "FormFlow", "module_name": "m", "method_name": "main", "input_param": {}}` + "\n"
	large := `{"name": "FormFlow", "module_name": "m", "method_name": "main", "input_param": "` + strings.Repeat("x", work.MaxItemBytes) +
		`"}` + "\n"
	for name, wrong := range map[string]struct {
		body   string
		status int
		says   string
	}{
		"nothing":         {"", http.StatusBadRequest, "empty"},
		"not JSON":        {good + "nonsense\n", http.StatusBadRequest, "malformed item"},
		"a field missing": {good + `{"name": "FormFlow"}`, http.StatusBadRequest, "item 2: malformed item: module_name is missing"},
		"one too many":    {good + `{"nom": "FormFlow"}`, http.StatusBadRequest, "item 2: malformed item"},
		"a negative row": {
			`[` + good + `,` + strings.Replace(good, "{", `{"row": -1, `, 1) + `]`, http.StatusBadRequest,
			"item 2: malformed item: row -1",
		},
		"half an array":     {`[` + good, http.StatusBadRequest, "malformed item"},
		"too large":         {good + large, http.StatusRequestEntityTooLarge, "item 2: oversized item"},
		"request too large": {strings.Repeat(large[:work.MaxItemBytes/2]+"\"}\n", 33), http.StatusRequestEntityTooLarge, "larger than"},
	} {
		status, body, err := s.servers[0].worker.call(t.Context(), http.MethodPost, "/v1/items", []byte(wrong.body))
		if err != nil || status != wrong.status || !strings.Contains(string(body), wrong.says) {
			t.Errorf("%s: %d %s %v, want %d %s", name, status, body, err, wrong.status, wrong.says)
		}
	}
	// Nothing of it was stored: the next one that is taken is the first.
	s.mustBeEmpty()
	status, body, err := s.servers[0].worker.call(t.Context(), http.MethodPost, "/v1/items", []byte(good))
	if err != nil || status != http.StatusOK || !strings.Contains(string(body), `"id":"o1"`) {
		t.Errorf("a good item: %d %s %v", status, body, err)
	}
}

func (s *site) mustBeEmpty() {
	s.t.Helper()
	o, err := s.outcome(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	if o.Waiting+o.Outbox+o.Effects+o.Rowless+int(o.work+o.dead) != 0 {
		s.t.Errorf("it is not empty:%s", o)
	}
}
