// Package adopt connects an OMFLOW Server that exists to its Boosters, or takes that back.
package adopt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/preflight"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
	"github.com/omflow-booster/omflow-booster/internal/text"
	"github.com/omflow-booster/omflow-booster/plugin"
	"github.com/omflow-booster/omflow-booster/worker/outbox"
)

// Django versions that the OMFLOW Server and the plugin work with, both included.
var djangoFrom, djangoTo = [2]int{2, 2}, [2]int{3, 2}

// Adoption connects a server that exists to its Boosters, or takes that back.
type Adoption struct {
	Home    string
	Python  string
	Booster string // host:port; empty: as in the settings
	Second  string
	Backups string // directory for the settings as they were; empty: the one that the home is in
	Engines []sqldb.Engine

	SkipIndexes bool // make or remove none

	Out    io.Writer // for people; nothing with --json
	Report Report
}

// keepConnections has a web process keep its connection to the database for the next request.
const keepConnections = `DATABASES["default"]["CONN_MAX_AGE"] = 60`

// Report is what adopt prints with --json.
type Report struct {
	Checks  []diagnosis.Finding `json:"checks,omitempty"`
	Change  string              `json:"change"`           // as diff shows it; empty: none is needed
	Written bool                `json:"written"`          // it was made
	Backup  string              `json:"backup,omitempty"` // the settings as they were

	Indexes []IndexChange `json:"indexes,omitempty"` // that the database needs
}

// ErrUnfit means that a check has failed; the findings say which.
var ErrUnfit = errors.New("the server cannot be connected as it is")

// Server is what a server's own Python says of it.
type Server struct {
	Python     preflight.PythonVersion `json:"python"`
	Django     [2]int                  `json:"django"`
	Server     bool                    `json:"server"`     // it is an OMFLOW Server
	Enabled    bool                    `json:"enabled"`    // the plugin is in INSTALLED_APPS
	Plugin     bool                    `json:"plugin"`     // it is installed
	Problem    string                  `json:"problem"`    // why Variables are missing
	Engine     string                  `json:"engine"`     // Django's name of the database engine
	Reconnects bool                    `json:"reconnects"` // each request opens a connection to the database
	Variables  map[string]string       `json:"variables"`
}

// Run connects the server, or, with undo, takes that back. Nothing is changed without write.
func (ad *Adoption) Run(ctx context.Context, undo, write bool) error {
	text, err := os.ReadFile(ad.settings())
	if err != nil {
		return fmt.Errorf("%s is not the directory of an OMFLOW Server: %w", ad.Home, err)
	}
	if undo {
		return ad.undo(ctx, text, write)
	}
	return ad.adopt(ctx, text, write)
}

func (ad *Adoption) adopt(ctx context.Context, text []byte, write bool) error {
	findings, server := ad.examine(ctx)
	ad.Report.Checks = findings
	if err := diagnosis.PrintFindings(ad.Out, findings); err != nil {
		return err
	}
	if diagnosis.Tally(findings)[diagnosis.VerdictFail] > 0 {
		return ErrUnfit
	}
	if err := ad.connect(ctx, text, server, write); err != nil {
		return err
	}
	return ad.index(ctx, server, false, write)
}

// connect changes the settings.
func (ad *Adoption) connect(ctx context.Context, text []byte, server Server, write bool) error {
	changed := addBlock(text, ad.lines(server))
	if changed == nil {
		_, err := fmt.Fprintf(ad.Out, "\n%s needs no change.\n", ad.settings())
		return err
	}
	if err := ad.change(text, changed, write); err != nil || !write {
		return err
	}
	if server, err := ad.describe(ctx); err != nil || !server.Enabled {
		if err == nil {
			err = errors.New("INSTALLED_APPS does not have it: is it set again further down?")
		}
		if undo := replaceFile(ad.settings(), text); undo != nil {
			return fmt.Errorf("the changed settings do not work (%w), and the old ones cannot be written: %w", err, undo)
		}
		return fmt.Errorf("the changed settings do not work, so the old ones are in place again: %w", err)
	}
	_, err := fmt.Fprintln(ad.Out, "Restart the server; the worker beside it then takes the waiting steps over.")
	return err
}

func (ad *Adoption) undo(ctx context.Context, text []byte, write bool) error {
	changed, err := removeBlock(text)
	if err != nil {
		return fmt.Errorf("%s: %w", ad.settings(), err)
	}
	if changed == nil {
		_, err = fmt.Fprintf(ad.Out, "%s has nothing of ours; no change.\n", ad.settings())
	} else if err = ad.change(text, changed, write); err == nil && write {
		_, err = fmt.Fprintln(ad.Out, "Stop the worker, then restart the server: it takes the waiting steps back.")
	}
	if err != nil {
		return err
	}
	server, err := ad.describe(ctx)
	if err != nil {
		return ad.noIndex(err)
	}
	return ad.index(ctx, server, true, write)
}

// change shows the difference and, with write, makes it.
func (ad *Adoption) change(before, after []byte, write bool) error {
	ad.Report.Change = difference(ad.settings(), before, after)
	if _, err := fmt.Fprintf(ad.Out, "\n%s\n", ad.Report.Change); err != nil {
		return err
	}
	if !write {
		_, err := fmt.Fprintln(ad.Out, "Nothing was changed. --write does it.")
		return err
	}
	backup, err := ad.keepCopy(before)
	if err != nil {
		return fmt.Errorf("keep a copy of the settings: %w", err)
	}
	if err := replaceFile(ad.settings(), after); err != nil {
		return fmt.Errorf("write the settings: %w", err)
	}
	ad.Report.Written, ad.Report.Backup = true, backup
	_, err = fmt.Fprintf(ad.Out, "Done. The old settings are in %s\n", backup)
	return err
}

func (ad *Adoption) settings() string { return filepath.Join(ad.Home, "omflow", "settings.py") }

// examine looks at everything that must fit. server is valid if nothing failed.
func (ad *Adoption) examine(ctx context.Context) (findings []diagnosis.Finding, server Server) {
	server, err := ad.describe(ctx)
	if err != nil {
		return []diagnosis.Finding{diagnosis.Failure("python", err.Error(), "set OMFLOW_PYTHON to the Python of the OMFLOW Server")}, server
	}
	version := diagnosis.OK("python", fmt.Sprintf("%s is Python %s", ad.Python, server.Python))
	if !server.Python.Enough() {
		version.Verdict, version.Fix = diagnosis.VerdictFail, preflight.PythonNeeded+"; set OMFLOW_PYTHON"
	}
	django := diagnosis.OK("django", fmt.Sprintf("Django %d.%d", server.Django[0], server.Django[1]))
	if slices.Compare(server.Django[:], djangoFrom[:]) < 0 || slices.Compare(djangoTo[:], server.Django[:]) < 0 {
		django.Verdict, django.Fix = diagnosis.VerdictFail, "OMFLOW runs on Django 2.2 to 3.2"
	}
	app := diagnosis.OK("server", ad.Home+" is an OMFLOW Server")
	if !server.Server {
		app = diagnosis.Failure("server", `INSTALLED_APPS has no "omflow"`, "give the directory of an OMFLOW Server, where manage.py is")
	}
	findings = []diagnosis.Finding{version, django, app, ad.database(ctx, server), ad.plugin(server)}
	findings = append(findings, ad.reach(ctx, server)...)
	findings = append(findings, ad.uploads(ctx, server)...)
	return append(findings, ad.formerCopies()...), server
}

// plugin looks whether ours is there. It comes after everything that would make installing it in vain.
func (ad *Adoption) plugin(server Server) diagnosis.Finding {
	const check = "plugin"
	if server.Plugin {
		return diagnosis.OK(check, "omflow_booster is installed")
	}
	return diagnosis.Failure(check, "omflow_booster is not installed for "+ad.Python,
		ad.Python+" -m pip install ./plugin; if pip refuses because the environment is externally managed, as on Debian, copy the folder "+
			"plugin/omflow_booster into "+ad.Home+", or add --break-system-packages")
}

// describe asks the server's own Python.
func (ad *Adoption) describe(ctx context.Context) (server Server, err error) {
	if err := plugin.Describe(ctx, ad.Python, ad.Home, &server); err != nil {
		return server, fmt.Errorf("%s cannot read %s: %w", ad.Python, ad.settings(), err)
	}
	return server, nil
}

func (ad *Adoption) database(ctx context.Context, server Server) diagnosis.Finding {
	const check = "database"
	if strings.HasSuffix(server.Engine, "sqlite3") {
		return diagnosis.Failure(check, "the server keeps its data in SQLite, which several servers cannot share",
			"move it to PostgreSQL first: `manage.py dumpdata`, set DATABASES, `manage.py migrate`, load; plugin/README.md has the commands")
	}
	if server.Problem != "" {
		return diagnosis.Failure(check, server.Problem, "")
	}
	url := server.Variables["DATABASE_URL"]
	db, err := sqldb.Open(ctx, url, ad.Engines)
	if err != nil {
		return diagnosis.Failure(check, err.Error(), "OMFLOW Booster works with PostgreSQL so far")
	}
	defer func() { _ = db.Close() }()
	table, err := outbox.New(db).QueueTable(ctx)
	if err == nil {
		err = table.Problem()
	}
	var waiting int
	if err == nil {
		err = db.GetContext(ctx, &waiting, "SELECT count(*) FROM omflow_queuedata")
	}
	if err != nil {
		return diagnosis.Failure(check, err.Error(), "is it the database of an OMFLOW Server? `manage.py migrate` makes its tables")
	}
	return diagnosis.OK(check, fmt.Sprintf("%s, %s", sqldb.Shown(url), text.Counted(waiting, "waiting step")))
}

// reach looks for the Boosters that the server will be told of.
func (ad *Adoption) reach(ctx context.Context, server Server) (findings []diagnosis.Finding) {
	for i, address := range []string{ad.address(ad.Booster, server, ""), ad.address(ad.Second, server, "SECOND_")} {
		switch {
		case address != "":
			f := diagnosis.OK("booster", address+" answers")
			conn, err := (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, "tcp", address)
			if err != nil {
				f = diagnosis.Failure("booster", err.Error(), "start the Booster first, and open its port for this host")
			} else {
				_ = conn.Close()
			}
			findings = append(findings, f)
		case i == 0:
			findings = append(findings, diagnosis.Failure("booster", "the settings name no Booster", "give --booster HOST"))
		}
	}
	return findings
}

// address is that of a Booster as host:port: the one given, else the one in the settings, else empty.
func (ad *Adoption) address(given string, server Server, prefix string) string {
	port := "5169"
	if given == "" {
		given = server.Variables[prefix+"BOOSTER_IP"]
		if p := server.Variables[prefix+"BOOSTER_PORT"]; p != "" {
			port = p
		}
	}
	if given == "" {
		return ""
	}
	if host, p, err := net.SplitHostPort(given); err == nil {
		return net.JoinHostPort(host, p)
	}
	return net.JoinHostPort(strings.Trim(given, "[]"), port)
}

// lines are what the settings lack.
func (ad *Adoption) lines(server Server) (lines []string) {
	if !server.Enabled {
		lines = append(lines, `INSTALLED_APPS = list(INSTALLED_APPS) + ["omflow_booster"]`)
	}
	if server.Reconnects {
		lines = append(lines, keepConnections)
	}
	for _, b := range []struct{ given, prefix string }{{ad.Booster, ""}, {ad.Second, "SECOND_"}} {
		if b.given == "" {
			continue
		}
		host, port, err := net.SplitHostPort(ad.address(b.given, server, b.prefix))
		if err != nil {
			continue // examine has refused it
		}
		for _, setting := range [][2]string{{b.prefix + "BOOSTER_IP", host}, {b.prefix + "BOOSTER_PORT", port}} {
			if server.Variables[setting[0]] != setting[1] {
				lines = append(lines, fmt.Sprintf("%s = %q", setting[0], setting[1]))
			}
		}
	}
	return lines
}
