package cli

import (
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/agent"
	"github.com/omflow-booster/omflow-booster/broker"
	"github.com/omflow-booster/omflow-booster/cli/doctor"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/worker"
)

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
	out := a.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		unread := adoptSettings(cmd.Context(), "BOOSTER_IP", "DATABASE_URL") // as the services beside the server do
		d := doctor.New(os.Environ(), serviceConfigs(), a.Engines, a.dial)
		findings := d.Examine(cmd.Context())
		if unread != nil {
			findings = append(findings, diagnosis.Warning("server", unread.Error(), "without the settings of the server the defaults were "+
				"looked at"))
		}
		if err := firstError(diagnosis.PrintFindings(out, findings), out.document(map[string]any{"checks": findings})); err != nil {
			return err
		}
		switch {
		case slices.ContainsFunc(findings, func(f diagnosis.Finding) bool {
			return f.Check == doctor.CheckEnvironment && f.Verdict == diagnosis.VerdictFail
		}):
			return reported(exitUsage)
		case diagnosis.Tally(findings)[diagnosis.VerdictFail] > 0:
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
