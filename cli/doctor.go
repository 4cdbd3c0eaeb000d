package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/agent"
	"github.com/omflow-booster/omflow-booster/broker"
	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
	"github.com/omflow-booster/omflow-booster/worker"
)

// verdict is the outcome of one check.
type verdict string

const (
	verdictOK   verdict = "ok"
	verdictWarn verdict = "warn" // works, but look at it
	verdictFail verdict = "fail"
	verdictSkip verdict = "skip" // does not apply to this host, or could not be looked at
)

// finding is one line of the doctor.
type finding struct {
	Check   string  `json:"check"`
	Verdict verdict `json:"verdict"`
	Detail  string  `json:"detail"`
	Fix     string  `json:"fix,omitempty"` // what to do
}

// doctor looks at one host: its settings, and what they lead to.
type doctor struct {
	settings settings
	engines  []sqldb.Engine
	dial     func() (*bus.Client, error)
}

func (a *App) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check the settings of this host, and everything that they lead to",
		Long: "Check the settings of this host and everything that they lead to: Booster, database, worker, disk, Python. Run\n" +
			"it with the environment of the service that makes trouble; what is not set is taken from the settings in\n" +
			"OMFLOW_HOME. Exit code 2 means that a setting is wrong, 1 that something else fails.",
		Example: "  omflow-booster doctor\n  set -a; . /etc/omflow-booster/worker.env; omflow-booster doctor",
		Args:    noArgs(),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		unread := adoptSettings(cmd.Context(), "BOOSTER_IP", "DATABASE_URL") // as the services beside the server do
		d := doctor{settings: readSettings(os.Environ(), serviceConfigs()), engines: a.Engines, dial: a.dial}
		findings := d.examine(cmd.Context())
		if unread != nil {
			findings = append(findings, finding{"server", verdictWarn, unread.Error(), "without the settings of the server the defaults were " +
				"looked at"})
		}
		if *asJSON {
			if err := printJSON(a.Stdout, map[string]any{"checks": findings}); err != nil {
				return err
			}
		} else if err := printFindings(a.Stdout, findings); err != nil {
			return err
		}
		switch {
		case slices.ContainsFunc(findings, func(f finding) bool { return f.Check == checkEnvironment && f.Verdict == verdictFail }):
			return reported(exitUsage)
		case tally(findings)[verdictFail] > 0:
			return reported(exitFailed)
		}
		return nil
	}
	return cmd
}

// serviceConfigs are the structs that every known variable is declared in.
func serviceConfigs() []any {
	return []any{&broker.Config{}, &worker.Config{}, &agent.Config{}, &broker.WitnessConfig{}}
}

// examine runs every check; one that fails does not keep the next from running.
func (d doctor) examine(ctx context.Context) []finding {
	var findings []finding
	for _, check := range []func(context.Context) []finding{
		d.environment, d.booster, d.database, d.workerSocket, d.disk, d.python,
	} {
		findings = append(findings, check(ctx)...)
	}
	return findings
}

func tally(findings []finding) map[verdict]int {
	n := map[verdict]int{}
	for _, f := range findings {
		n[f.Verdict]++
	}
	return n
}

func printFindings(w io.Writer, findings []finding) error {
	for _, f := range findings {
		line := fmt.Sprintf("%-4s  %-11s  %s\n", f.Verdict, f.Check, oneLine(f.Detail))
		if f.Fix != "" {
			line += fmt.Sprintf("%19s→ %s\n", "", oneLine(f.Fix))
		}
		if _, err := io.WriteString(w, line); err != nil {
			return err
		}
	}
	n := tally(findings)
	_, err := fmt.Fprintf(w, "\n%d ok, %s, %d failed\n", n[verdictOK], counted(n[verdictWarn], "warning"), n[verdictFail])
	return err
}
