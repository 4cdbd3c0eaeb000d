package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/cli/adopt"
	"github.com/omflow-booster/omflow-booster/cli/doctor"
	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/pgtest"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
)

// adoptable is the home of a server whose Python answers what the test says. The settings are said to be enabled once our line is in them.
func adoptable(t *testing.T, settings, engine, databaseURL string) (home string) {
	t.Helper()
	home = filepath.Join(t.TempDir(), "server")
	require.NoError(t, os.MkdirAll(filepath.Join(home, "omflow"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(home, "omflow", "settings.py"), []byte(settings), 0o640))
	python := filepath.Join(home, "python")
	script := fmt.Sprintf(`#!/bin/sh
enabled=false; grep -q '\["omflow_booster"\]' omflow/settings.py && enabled=true
reconnects=true; grep -q 'CONN_MAX_AGE' omflow/settings.py && reconnects=false
echo '{"python":[3,9,1],"django":[3,2],"server":true,"plugin":true,"enabled":'$enabled',"reconnects":'$reconnects\
',"engine":"django.db.backends.%s","variables":{"DATABASE_URL":"%s"}}'
`, engine, databaseURL)
	require.NoError(t, os.WriteFile(python, []byte(script), 0o755))
	t.Setenv("OMFLOW_PYTHON", python)
	return home
}

// runApp runs a command line and returns its exit code and what it printed.
func runApp(t *testing.T, args ...string) (code int, printed string) {
	t.Helper()
	var out bytes.Buffer
	stderr, err := os.CreateTemp(t.TempDir(), "stderr")
	require.NoError(t, err)
	app := &App{Engines: []sqldb.Engine{sqldb.Postgres()}, Stdin: strings.NewReader(""), Stdout: &out, Stderr: stderr}
	code = app.Main(args)
	said, err := os.ReadFile(stderr.Name())
	require.NoError(t, err)
	return code, out.String() + string(said)
}

func TestAdoptAndUndo(t *testing.T) {
	database := pgtest.New(t)
	pgtest.Exec(t, database, `CREATE TABLE omflow_queuedata (id serial PRIMARY KEY, queue_id text)`)
	pgtest.Exec(t, database, `INSERT INTO omflow_queuedata DEFAULT VALUES`)
	booster, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = booster.Close() })
	text := "INSTALLED_APPS = ['omflow']  # 手で編集\nDEBUG = False"
	home := adoptable(t, text, "postgresql", database)
	settings := filepath.Join(home, "omflow", "settings.py")
	read := func() string {
		data, err := os.ReadFile(settings)
		require.NoError(t, err)
		return string(data)
	}

	code, out := runApp(t, "adopt", home, "--booster", booster.Addr().String())
	require.Zero(t, code, out)
	require.Contains(t, out, "1 waiting step")
	require.Contains(t, out, "\n+BOOSTER_IP = \"127.0.0.1\"\n")
	require.Contains(t, out, "\n+DATABASES[\"default\"][\"CONN_MAX_AGE\"] = 60\n")
	require.Equal(t, text, read(), "a dry run")
	code, out = runApp(t, "adopt", home, "--booster", booster.Addr().String(), "--json")
	require.Zero(t, code, out)
	var report adopt.Report
	require.NoError(t, json.Unmarshal([]byte(out), &report), out)
	require.Len(t, report.Checks, 6)
	require.Contains(t, report.Change, "+BOOSTER_IP")
	require.False(t, report.Written)

	code, out = runApp(t, "adopt", home, "--booster", booster.Addr().String(), "--write")
	require.Zero(t, code, out)
	require.True(t, strings.HasPrefix(read(), text+"\n"+adopt.BlockBegin), read())
	info, err := os.Stat(settings)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o640), info.Mode().Perm())
	copies, err := filepath.Glob(settings + ".before-*")
	require.NoError(t, err)
	require.Empty(t, copies, "an agent would publish them")
	copies, err = filepath.Glob(filepath.Join(filepath.Dir(home), "server-settings.py.before-*"))
	require.NoError(t, err)
	require.Len(t, copies, 1)
	info, err = os.Stat(copies[0])
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	kept, err := os.ReadFile(copies[0])
	require.NoError(t, err)
	require.Equal(t, text, string(kept))

	code, out = runApp(t, "adopt", home, "--undo")
	require.Zero(t, code, out)
	require.Contains(t, out, "\n-BOOSTER_IP = \"127.0.0.1\"\n")
	require.NotEqual(t, text, read(), "a dry run")
	code, out = runApp(t, "adopt", home, "--undo", "--write")
	require.Zero(t, code, out)
	require.Equal(t, text, read())
	code, out = runApp(t, "adopt", home, "--booster", booster.Addr().String(), "--write", "--backup", filepath.Join(home, "omflow"))
	require.Equal(t, exitFailed, code, out)
	require.Contains(t, out, "is in the home of the server")
	require.Equal(t, text, read())
	require.NoError(t, os.WriteFile(settings+".before-20260101", nil, 0o600))
	_, out = runApp(t, "adopt", home, "--booster", booster.Addr().String())
	require.Contains(t, out, "move them out of the home")
}

// The engine looks its rows up by queue_id. adopt makes an index for that, removes only its own, and doctor warns without it.
func TestAdoptMakesTheIndex(t *testing.T) {
	database := pgtest.New(t)
	pgtest.OMFLOWTables(t, database)
	booster, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = booster.Close() })
	home := adoptable(t, "INSTALLED_APPS = ['omflow']\n", "postgresql", database)
	db, err := sqldb.Open(t.Context(), database, []sqldb.Engine{sqldb.Postgres()})
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	indexes := func() (n int) {
		require.NoError(t, db.Get(&n, `SELECT count(*) FROM pg_indexes WHERE tablename = 'omflow_queuedata' AND indexdef LIKE '%(queue_id)'`))
		return n
	}
	doctor := func() string { return databaseFindings(t, database) }
	adopt := func(more ...string) string {
		code, out := runApp(t, append([]string{"adopt", home, "--booster", booster.Addr().String()}, more...)...)
		require.Zero(t, code, out)
		return out
	}
	require.Contains(t, doctor(), "warn database: public.omflow_queuedata has no index on queue_id: each step reads all its rows (about 0, ")
	require.Contains(t, adopt(), "CREATE INDEX CONCURRENTLY omflow_booster_queue_id")
	require.NotContains(t, adopt("--skip-indexes", "--write"), "omflow_booster_queue_id")
	require.Zero(t, indexes(), "a dry run")
	require.Contains(t, adopt("--write"), "was made")
	require.Equal(t, 1, indexes())
	require.Contains(t, doctor(), "ok database: the look-ups of the engine have indexes")
	require.NotContains(t, adopt("--write"), "omflow_booster_queue_id", "it is there")
	require.Contains(t, adopt("--undo"), "DROP INDEX")
	require.Equal(t, 1, indexes(), "a dry run")
	require.Contains(t, adopt("--undo", "--write"), "was removed")
	require.Zero(t, indexes())

	adopt("--write")
	pgtest.Exec(t, database, `CREATE TABLE ommission_missions (id serial PRIMARY KEY, data_no int, data_id int)`)
	require.Contains(t, doctor(), "but for 2 look-ups in tables that are small yet")
	pgtest.Exec(t, database, `INSERT INTO ommission_missions (data_no) SELECT generate_series(1, 2000)`)
	pgtest.Exec(t, database, `ANALYZE ommission_missions`)
	require.Contains(t, doctor(), "no index on data_no: each step at a form or an end point reads all its rows (about 2,000, ")
	require.Contains(t, adopt("--write"), "Index omflow_booster_mission_no was made in ")
	require.NotContains(t, doctor(), "no index")
	require.Contains(t, adopt("--undo", "--write"), "Index omflow_booster_mission_id was removed")
	pgtest.Exec(t, database, `DROP TABLE ommission_missions`)

	db.MustExec(`CREATE INDEX theirs ON omflow_queuedata (queue_id)`)
	require.NotContains(t, adopt("--write"), "omflow_booster_queue_id")
	require.NotContains(t, adopt("--undo", "--write"), "was removed")
	require.Equal(t, 1, indexes(), "it is not ours")
}

// databaseFindings is what the doctor says of a database.
func databaseFindings(t *testing.T, database string) string {
	t.Helper()
	host := doctor.New([]string{"DATABASE_URL=" + database}, serviceConfigs(), []sqldb.Engine{sqldb.Postgres()},
		func() (*bus.Client, error) { return nil, bus.ErrNoBooster })
	var lines []string
	for _, f := range host.Examine(t.Context()) {
		if f.Check == "database" {
			lines = append(lines, string(f.Verdict)+" "+f.Check+": "+f.Detail)
		}
	}
	return strings.Join(lines, "\n")
}

func TestDoctorFindsTheTableOutOfSight(t *testing.T) {
	database := pgtest.New(t)
	check := func() string { return databaseFindings(t, database) }
	require.NotContains(t, check(), "omflow_queuedata")
	pgtest.Exec(t, database, `CREATE SCHEMA omflow`)
	pgtest.Exec(t, database, `CREATE TABLE omflow.omflow_queuedata (id serial PRIMARY KEY, queue_id text)`)
	require.Contains(t, check(), "fail database: the steps of the OMFLOW Server cannot be reached: omflow_queuedata is in schema omflow")
}

// SQLite, and an option that is not known, are said before anybody has installed the plugin for nothing.
func TestAdoptNeedsNoPluginToRefuse(t *testing.T) {
	python, err := exec.LookPath("/usr/bin/python3")
	if err != nil || exec.Command(python, "-c", "import django").Run() != nil {
		t.Skip("no Django for " + python)
	}
	t.Setenv("OMFLOW_PYTHON", python)
	t.Setenv("DJANGO_SETTINGS_MODULE", "omflow.settings")
	home := filepath.Join(t.TempDir(), "server")
	require.NoError(t, os.MkdirAll(filepath.Join(home, "omflow"), 0o755))
	for database, want := range map[string]string{
		`{"ENGINE": "django.db.backends.sqlite3", "NAME": "db"}`:                                         "SQLite",
		`{"ENGINE": "django.db.backends.postgresql", "NAME": "db", "OPTIONS": {"hostaddr": "10.0.0.9"}}`: "the option 'hostaddr'",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(home, "omflow", "settings.py"),
			[]byte("INSTALLED_APPS = ['omflow']\nDATABASES = {'default': "+database+"}\n"), 0o600))
		code, out := runApp(t, "adopt", home, "--booster", "127.0.0.1:1")
		require.Equal(t, exitFailed, code, out)
		require.Contains(t, out, want)
		require.Contains(t, out, "omflow_booster is not installed")
		require.Contains(t, out, "--break-system-packages")
	}
}

func TestAdoptRefuses(t *testing.T) {
	home := adoptable(t, "X = 1\n", "sqlite3", "sqlite3:///db.omflow")
	code, out := runApp(t, "adopt", home, "--booster", "127.0.0.1:1", "--write")
	require.Equal(t, exitFailed, code, out)
	require.Contains(t, out, "SQLite")
	require.Contains(t, out, "dumpdata", "the way out")
	require.Contains(t, out, "connection refused")
	data, err := os.ReadFile(filepath.Join(home, "omflow", "settings.py"))
	require.NoError(t, err)
	require.Equal(t, "X = 1\n", string(data))

	code, out = runApp(t, "adopt", home)
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, "--booster HOST")
	code, out = runApp(t, "adopt", t.TempDir())
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, "is not the directory of an OMFLOW Server")
	code, _ = runApp(t, "adopt")
	require.Equal(t, exitUsage, code)
}
