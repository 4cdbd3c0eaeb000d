package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/preflight"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
	"github.com/omflow-booster/omflow-booster/plugin"
	"github.com/omflow-booster/omflow-booster/worker/outbox"
)

// Django versions that the OMFLOW Server and the plugin work with, both included.
var djangoFrom, djangoTo = [2]int{2, 2}, [2]int{3, 2}

// adoption connects a server that exists to its Boosters, or takes that back.
type adoption struct {
	home    string
	python  string
	booster string // host:port; empty: as in the settings
	second  string
	backups string // directory for the settings as they were; empty: the one that the home is in
	engines []sqldb.Engine

	out    io.Writer // for people; nothing with --json
	report adoptReport
}

// adoptReport is what adopt prints with --json.
type adoptReport struct {
	Checks  []finding `json:"checks,omitempty"`
	Change  string    `json:"change"`           // as diff shows it; empty: none is needed
	Written bool      `json:"written"`          // it was made
	Backup  string    `json:"backup,omitempty"` // the settings as they were

	Index     string `json:"index,omitempty"` // the statement that the database needs
	IndexDone bool   `json:"index_done"`
}

// adopted is what a server's own Python says of it.
type adopted struct {
	Python    preflight.PythonVersion `json:"python"`
	Django    [2]int                  `json:"django"`
	Server    bool                    `json:"server"`  // it is an OMFLOW Server
	Enabled   bool                    `json:"enabled"` // the plugin is in INSTALLED_APPS
	Plugin    bool                    `json:"plugin"`  // it is installed
	Problem   string                  `json:"problem"` // why Variables are missing
	Engine    string                  `json:"engine"`  // Django's name of the database engine
	Variables map[string]string       `json:"variables"`
}

func (a *App) adoptCommand() *cobra.Command {
	var undo, write bool
	ad := adoption{engines: a.Engines}
	var asJSON *bool
	cmd := &cobra.Command{
		Use:   "adopt OMFLOW_HOME",
		Short: "Connect an OMFLOW Server that exists to OMFLOW Booster, or take that back",
		Long: "Check an OMFLOW Server that exists (Python, Django, database, Boosters) and show what has to be added to its\n" +
			"settings. Nothing is changed without --write, which keeps a copy of the settings outside the home. It also\n" +
			"makes an index on omflow_queuedata(queue_id) if there is none, while the server goes on working. --undo shows,\n" +
			"and with --write does, the opposite: what adopt has added goes, every other byte stays. Restart the server\n" +
			"afterwards.\n\n" +
			"The plugin must be installed for the server's Python (OMFLOW_PYTHON, by default python3); see\n" +
			"plugin/README.md.",
		Example: "  omflow-booster adopt /opt/omflow/server --booster 10.0.0.5 --second 10.0.0.6\n" +
			"  omflow-booster adopt /opt/omflow/server --booster 10.0.0.5 --second 10.0.0.6 --write\n" +
			"  omflow-booster adopt /opt/omflow/server --undo --write",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("give the directory of the OMFLOW Server, where manage.py is")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ad.home = args[0]
			if ad.python = os.Getenv("OMFLOW_PYTHON"); ad.python == "" {
				ad.python = "python3"
			}
			ad.out = a.Stdout
			if *asJSON {
				ad.out = io.Discard
			}
			err := ad.run(cmd.Context(), undo, write)
			if *asJSON && (err == nil || errors.Is(err, errReported)) {
				err = errors.Join(err, printJSON(a.Stdout, ad.report))
			}
			return err
		},
	}
	asJSON = jsonFlag(cmd)
	cmd.Flags().StringVar(&ad.booster, "booster", "", "address of the active Booster, as host or host:port; default: as in the settings")
	cmd.Flags().StringVar(&ad.second, "second", "", "address of the standby Booster, if there is one")
	cmd.Flags().StringVar(&ad.backups, "backup", "", "directory for the copy of the settings; default: the one that OMFLOW_HOME is in")
	cmd.Flags().BoolVar(&undo, "undo", false, "remove what adopt has added")
	cmd.Flags().BoolVar(&write, "write", false, "change the settings instead of showing the change")
	return cmd
}

func (ad *adoption) run(ctx context.Context, undo, write bool) error {
	text, err := os.ReadFile(ad.settings())
	if err != nil {
		return fmt.Errorf("%s is not the directory of an OMFLOW Server: %w", ad.home, err)
	}
	if undo {
		return ad.undo(ctx, text, write)
	}
	return ad.adopt(ctx, text, write)
}

func (ad *adoption) adopt(ctx context.Context, text []byte, write bool) error {
	findings, server := ad.examine(ctx)
	ad.report.Checks = findings
	if err := printFindings(ad.out, findings); err != nil {
		return err
	}
	if tally(findings)[verdictFail] > 0 {
		return errReported
	}
	if err := ad.connect(ctx, text, server, write); err != nil {
		return err
	}
	return ad.index(ctx, server, false, write)
}

// connect changes the settings.
func (ad *adoption) connect(ctx context.Context, text []byte, server adopted, write bool) error {
	changed := addBlock(text, ad.lines(server))
	if changed == nil {
		_, err := fmt.Fprintf(ad.out, "\n%s needs no change.\n", ad.settings())
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
	_, err := fmt.Fprintln(ad.out, "Restart the server; the worker beside it then takes the waiting steps over.")
	return err
}

func (ad *adoption) undo(ctx context.Context, text []byte, write bool) error {
	changed, err := removeBlock(text)
	if err != nil {
		return fmt.Errorf("%s: %w", ad.settings(), err)
	}
	if changed == nil {
		_, err = fmt.Fprintf(ad.out, "%s has nothing of ours; no change.\n", ad.settings())
	} else if err = ad.change(text, changed, write); err == nil && write {
		_, err = fmt.Fprintln(ad.out, "Stop the worker, then restart the server: it takes the waiting steps back.")
	}
	if err != nil {
		return err
	}
	server, err := ad.describe(ctx)
	if err != nil {
		return ad.noIndex(true, err)
	}
	return ad.index(ctx, server, true, write)
}

// change shows the difference and, with write, makes it.
func (ad *adoption) change(before, after []byte, write bool) error {
	ad.report.Change = difference(ad.settings(), before, after)
	if _, err := fmt.Fprintf(ad.out, "\n%s\n", ad.report.Change); err != nil {
		return err
	}
	if !write {
		_, err := fmt.Fprintln(ad.out, "Nothing was changed. --write does it.")
		return err
	}
	backup, err := ad.keepCopy(before)
	if err != nil {
		return fmt.Errorf("keep a copy of the settings: %w", err)
	}
	if err := replaceFile(ad.settings(), after); err != nil {
		return fmt.Errorf("write the settings: %w", err)
	}
	ad.report.Written, ad.report.Backup = true, backup
	_, err = fmt.Fprintf(ad.out, "Done. The old settings are in %s\n", backup)
	return err
}

func (ad *adoption) settings() string { return filepath.Join(ad.home, "omflow", "settings.py") }

// examine looks at everything that must fit. server is valid if nothing failed.
func (ad *adoption) examine(ctx context.Context) (findings []finding, server adopted) {
	server, err := ad.describe(ctx)
	if err != nil {
		return []finding{{
			"python", verdictFail, err.Error(),
			"set OMFLOW_PYTHON to the Python of the OMFLOW Server",
		}}, server
	}
	version := finding{"python", verdictOK, fmt.Sprintf("%s is Python %s", ad.python, server.Python), ""}
	if !server.Python.Enough() {
		version.Verdict, version.Fix = verdictFail, olderPython
	}
	django := finding{"django", verdictOK, fmt.Sprintf("Django %d.%d", server.Django[0], server.Django[1]), ""}
	if olderThan(server.Django, djangoFrom) || olderThan(djangoTo, server.Django) {
		django.Verdict, django.Fix = verdictFail, "OMFLOW runs on Django 2.2 to 3.2"
	}
	app := finding{"server", verdictOK, ad.home + " is an OMFLOW Server", ""}
	if !server.Server {
		app = finding{"server", verdictFail, `INSTALLED_APPS has no "omflow"`, "give the directory of an OMFLOW Server, where manage.py is"}
	}
	findings = []finding{version, django, app, ad.database(ctx, server), ad.plugin(server)}
	findings = append(findings, ad.reach(ctx, server)...)
	findings = append(findings, ad.uploads(ctx, server)...)
	return append(findings, ad.formerCopies()...), server
}

// plugin looks whether ours is there. It comes after everything that would make installing it in vain.
func (ad *adoption) plugin(server adopted) finding {
	const check = "plugin"
	if server.Plugin {
		return finding{check, verdictOK, "omflow_booster is installed", ""}
	}
	return finding{
		check, verdictFail, "omflow_booster is not installed for " + ad.python,
		ad.python + " -m pip install ./plugin; if pip refuses because the environment is externally managed, as on Debian, copy the folder " +
			"plugin/omflow_booster into " + ad.home + ", or add --break-system-packages",
	}
}

// describe asks the server's own Python.
func (ad *adoption) describe(ctx context.Context) (server adopted, err error) {
	ctx, cancel := context.WithTimeout(ctx, readSettingsTimeout)
	defer cancel()
	var stderr strings.Builder
	cmd := exec.CommandContext(ctx, ad.python, "-", "--describe") // the plugin may not be there yet
	cmd.Stdin, cmd.Dir, cmd.Stderr, cmd.WaitDelay = strings.NewReader(plugin.Environment), ad.home, &stderr, time.Second
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &server)
	}
	if err != nil {
		return server, fmt.Errorf("%s cannot read %s: %w%s", ad.python, ad.settings(), err, lastLine(stderr.String()))
	}
	return server, nil
}

func (ad *adoption) database(ctx context.Context, server adopted) finding {
	const check = "database"
	if strings.HasSuffix(server.Engine, "sqlite3") {
		return finding{
			check, verdictFail, "the server keeps its data in SQLite, which several servers cannot share",
			"move it to PostgreSQL first: `manage.py dumpdata`, set DATABASES, `manage.py migrate`, load; plugin/README.md has the commands",
		}
	}
	if server.Problem != "" {
		return finding{check, verdictFail, server.Problem, ""}
	}
	url := server.Variables["DATABASE_URL"]
	db, err := sqldb.Open(ctx, url, ad.engines)
	if err != nil {
		return finding{check, verdictFail, err.Error(), "OMFLOW Booster works with PostgreSQL so far"}
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
		return finding{check, verdictFail, err.Error(), "is it the database of an OMFLOW Server? `manage.py migrate` makes its tables"}
	}
	return finding{check, verdictOK, fmt.Sprintf("%s, %s", sqldb.Shown(url), counted(waiting, "waiting step")), ""}
}

// reach looks for the Boosters that the server will be told of.
func (ad *adoption) reach(ctx context.Context, server adopted) (findings []finding) {
	for i, address := range []string{ad.address(ad.booster, server, ""), ad.address(ad.second, server, "SECOND_")} {
		switch {
		case address != "":
			f := finding{"booster", verdictOK, address + " answers", ""}
			conn, err := (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, "tcp", address)
			if err != nil {
				f = finding{"booster", verdictFail, err.Error(), "start the Booster first, and open its port for this host"}
			} else {
				_ = conn.Close()
			}
			findings = append(findings, f)
		case i == 0:
			findings = append(findings, finding{"booster", verdictFail, "the settings name no Booster", "give --booster HOST"})
		}
	}
	return findings
}

// address is that of a Booster as host:port: the one given, else the one in the settings, else empty.
func (ad *adoption) address(given string, server adopted, prefix string) string {
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
func (ad *adoption) lines(server adopted) (lines []string) {
	if !server.Enabled {
		lines = append(lines, `INSTALLED_APPS = list(INSTALLED_APPS) + ["omflow_booster"]`)
	}
	for _, b := range []struct{ given, prefix string }{{ad.booster, ""}, {ad.second, "SECOND_"}} {
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
