package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/preflight"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
	"github.com/omflow-booster/omflow-booster/internal/text"
	"github.com/omflow-booster/omflow-booster/worker"
	"github.com/omflow-booster/omflow-booster/worker/outbox"
)

// answerTimeout bounds every single question.
const answerTimeout = 5 * time.Second

// database checks that DATABASE_URL leads to a database with our tables in the right version.
func (d Host) database(ctx context.Context) []diagnosis.Finding {
	const check = "database"
	url, chosen := d.settings.value("DATABASE_URL")
	if !chosen {
		return []diagnosis.Finding{diagnosis.Skipped(check, "DATABASE_URL is not set; only workers need it")}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*answerTimeout)
	defer cancel()
	db, err := sqldb.Open(ctx, url, d.engines)
	var wrong *config.Error
	switch {
	case errors.As(err, &wrong):
		return []diagnosis.Finding{diagnosis.Failure(check, wrong.Var+": "+wrong.Problem, wrong.Fix)}
	case err != nil:
		return []diagnosis.Finding{diagnosis.Failure(check, err.Error(), "")}
	}
	defer func() { _ = db.Close() }()
	schema, err := db.SchemaVersion(ctx)
	where := db.Engine.Name + " at " + sqldb.Shown(url)
	if err != nil {
		return []diagnosis.Finding{diagnosis.Failure(check, where+": "+err.Error(), "the account needs the right to read and write")}
	}
	return append([]diagnosis.Finding{judgeSchema(check, where, schema)}, d.queueTable(ctx, db)...)
}

// queueTable looks whether the steps of the OMFLOW Server can be reached, as its worker does.
func (d Host) queueTable(ctx context.Context, db *sqldb.DB) []diagnosis.Finding {
	const check = "database"
	table, err := outbox.New(db).QueueTable(ctx)
	if err != nil {
		return []diagnosis.Finding{diagnosis.Failure(check, err.Error(), "")}
	}
	home, _ := d.settings.value("OMFLOW_HOME")
	if table.Nowhere() && !worker.BesideServer(home) {
		return nil // other programs use the Booster too
	}
	if err := table.Problem(); err != nil {
		return []diagnosis.Finding{diagnosis.Failure(check, err.Error(), "")}
	}
	return judgeIndexes(ctx, db, check, "`omflow-booster adopt OMFLOW_HOME --write` makes it while the server goes on working")
}

func judgeSchema(check, where string, s sqldb.Schema) diagnosis.Finding {
	switch {
	case s.Current > s.Latest:
		return diagnosis.Failure(check, fmt.Sprintf("%s: schema %d is newer than this program, which knows %d", where, s.Current, s.Latest),
			"update omflow-booster on this host")
	case s.Current < s.Latest:
		return diagnosis.Warning(check, fmt.Sprintf("%s: schema %d of %d", where, s.Current, s.Latest),
			"the next worker that starts brings it up to date; or run `omflow-booster migrate`")
	}
	return diagnosis.OK(check, fmt.Sprintf("%s, schema %d", where, s.Current))
}

// workerSocket asks the worker of this host, if there is one, how it is.
func (d Host) workerSocket(ctx context.Context) []diagnosis.Finding {
	const check = "worker"
	path, chosen := d.settings.value("WORKER_SOCKET")
	if _, err := os.Stat(path); err != nil {
		if !chosen && errors.Is(err, fs.ErrNotExist) {
			return []diagnosis.Finding{diagnosis.Skipped(check, "no worker on this host")}
		}
		return []diagnosis.Finding{diagnosis.Failure(check, "WORKER_SOCKET: "+err.Error(), "is `omflow-booster worker` running here?")}
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	status, text, err := getLocal(ctx, path, "/healthz")
	switch {
	case err != nil:
		return []diagnosis.Finding{diagnosis.Failure(check, "no answer on "+path+": "+err.Error(), "is `omflow-booster worker` running here?")}
	case status != http.StatusOK:
		return []diagnosis.Finding{diagnosis.Failure(check, fmt.Sprintf("not healthy (%d): %s", status, text), "look at the log of the worker")}
	}
	return []diagnosis.Finding{judgeWorker(ctx, check, path, text)}
}

// judgeWorker looks at what a worker that answers says of its Booster and its database: with either away it takes no steps.
func judgeWorker(ctx context.Context, check, path, healthText string) diagnosis.Finding {
	answers := "answers on " + path
	var health struct {
		Connected *bool `json:"booster_connected"`
		Accepts   *bool `json:"accepts_work"`
	}
	_ = json.Unmarshal([]byte(healthText), &health)
	if health.Connected != nil && !*health.Connected {
		return diagnosis.Warning(check, answers+", but has no connection to a Booster", "compare its BOOSTER_IP and BOOSTER_PORT with those here")
	}
	var state struct {
		Worker bus.WorkerState `json:"worker"`
	}
	status, text, err := getLocal(ctx, path, "/v1/status")
	if err == nil && status == http.StatusOK && json.Unmarshal([]byte(text), &state) == nil {
		if database := state.Worker.Database; database != diagnosis.StateOK && database != "" {
			return diagnosis.Failure(check, answers+", but takes no steps: database "+database, "it goes on by itself when its database answers")
		}
	}
	if health.Accepts != nil && !*health.Accepts {
		return diagnosis.Warning(check,
			answers+", but takes no steps yet: it does not know whether the Booster carries the steps of its database",
			"run this again in ten seconds; if it stays, look at the log of the worker")
	}
	return diagnosis.OK(check, answers)
}

// getLocal asks the worker for a path of its local API, over a Unix socket.
func getLocal(ctx context.Context, socket, path string) (status int, text string, err error) {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://unix"+path, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode, string(body), err
}

// Free space from which the disk of a data directory is a warning or a failure.
const (
	warnFreePercent = 10
	failFreeBytes   = 512 << 20
)

// disk checks the file systems under the data directories that are on this host.
func (d Host) disk(ctx context.Context) (findings []diagnosis.Finding) {
	for _, name := range sortedKeys(d.settings.defaults) {
		if !strings.HasSuffix(name, "_DATA_DIR") {
			continue
		}
		dir, chosen := d.settings.value(name)
		if _, err := os.Stat(dir); err != nil {
			if chosen {
				findings = append(findings, diagnosis.Warning("disk", name+": "+err.Error(), "the service creates it if it may"))
			}
			continue
		}
		findings = append(findings, diskSpace(ctx, name, dir))
	}
	if home, chosen := d.settings.value("OMFLOW_HOME"); chosen {
		findings = append(findings, homeDisk(ctx, home)...)
	}
	if len(findings) == 0 {
		findings = []diagnosis.Finding{diagnosis.Skipped("disk", "no data directory on this host")}
	}
	return findings
}

// homeDisk looks whether a patch could be written into the home of an OMFLOW Server. That there is one, python checks.
func homeDisk(ctx context.Context, home string) []diagnosis.Finding {
	if info, err := os.Stat(home); err != nil || !info.IsDir() {
		return nil
	}
	if err := preflight.Writable(home); err != nil {
		return []diagnosis.Finding{diagnosis.Warning("disk", "OMFLOW_HOME: "+err.Error(),
			"an agent of this user could apply no patch: give it the right to write there")}
	}
	return []diagnosis.Finding{diskSpace(ctx, "OMFLOW_HOME", home)}
}

func diskSpace(ctx context.Context, name, dir string) diagnosis.Finding {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	free, total, err := preflight.Space(ctx, dir)
	if err != nil {
		return diagnosis.Warning("disk", fmt.Sprintf("%s: free space of %s is not known: %s", name, dir, err), "")
	}
	f := diagnosis.OK("disk", fmt.Sprintf("%s: %s of %s free in %s", name, text.Size(free), text.Size(total), dir))
	switch {
	case free < failFreeBytes:
		f.Verdict, f.Fix = diagnosis.VerdictFail, "make room, or move the directory: a full disk stops the service"
	case free*100 < total*warnFreePercent:
		f.Verdict, f.Fix = diagnosis.VerdictWarn, "make room before it is full"
	}
	return f
}

const olderPython = preflight.PythonNeeded + "; set OMFLOW_PYTHON"

// python checks the Python of the OMFLOW Server, if one is on this host.
func (d Host) python(ctx context.Context) []diagnosis.Finding {
	const check = "python"
	home, chosen := d.settings.value("OMFLOW_HOME")
	if !chosen {
		return []diagnosis.Finding{diagnosis.Skipped(check, "OMFLOW_HOME is not set")}
	}
	if info, err := os.Stat(home); err != nil || !info.IsDir() {
		return []diagnosis.Finding{diagnosis.Failure(check, "OMFLOW_HOME: "+home+" is not a directory",
			"give the directory of the OMFLOW Server, "+
				"where manage.py is")}
	}
	program, _ := d.settings.value("OMFLOW_PYTHON")
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	version, err := preflight.Python(ctx, program, home)
	switch {
	case err != nil:
		return []diagnosis.Finding{diagnosis.Failure(check, fmt.Sprintf("%s --version: %s", program, err),
			"set OMFLOW_PYTHON to the Python of the OMFLOW Server")}
	case !version.Enough():
		return []diagnosis.Finding{diagnosis.Failure(check, program+" is Python "+version.String(), olderPython)}
	}
	return []diagnosis.Finding{diagnosis.OK(check, program+" is Python "+version.String())}
}
