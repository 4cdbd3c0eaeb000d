package cli

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/cli/adopt"
)

func (a *App) adoptCommand() *cobra.Command {
	var undo, write bool
	ad := adopt.Adoption{Engines: a.Engines}
	var out *output
	cmd := &cobra.Command{
		Use:   "adopt OMFLOW_HOME",
		Short: "Connect an OMFLOW Server that exists to OMFLOW Booster, or take that back",
		Long: "Check an OMFLOW Server that exists (Python, Django, database, Boosters) and show what has to be added to its\n" +
			"settings. Nothing is changed without --write, which keeps a copy of the settings outside the home. --undo shows,\n" +
			"and with --write does, the opposite: what adopt has added goes, every other byte stays. Restart the server\n" +
			"afterwards.\n\n" +
			"adopt also offers what makes the database faster for the OMFLOW Server itself: indexes for the look-ups of its\n" +
			"engine, made one after the other while the server goes on working (with 60,000 tickets a step then takes 1 ms of\n" +
			"the database instead of 250), and CONN_MAX_AGE, so that a request does not open a connection of its own (77\n" +
			"requests a second instead of 22). A form that is deployed later has tables of its own: run adopt again.\n" +
			"--skip-indexes leaves the tables alone.\n\n" +
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
			ad.Home = args[0]
			if ad.Python = os.Getenv("OMFLOW_PYTHON"); ad.Python == "" {
				ad.Python = "python3"
			}
			ad.Out = out
			err := ad.Run(cmd.Context(), undo, write)
			if err == nil || errors.Is(err, adopt.ErrUnfit) {
				err = errors.Join(err, out.document(ad.Report))
			}
			if errors.Is(err, adopt.ErrUnfit) {
				return errReported // the findings say it
			}
			return err
		},
	}
	out = a.output(cmd)
	cmd.Flags().StringVar(&ad.Booster, "booster", "", "address of the active Booster, as host or host:port; default: as in the settings")
	cmd.Flags().StringVar(&ad.Second, "second", "", "address of the standby Booster, if there is one")
	cmd.Flags().StringVar(&ad.Backups, "backup", "", "directory for the copy of the settings; default: the one that OMFLOW_HOME is in")
	cmd.Flags().BoolVar(&undo, "undo", false, "remove what adopt has added")
	cmd.Flags().BoolVar(&ad.SkipIndexes, "skip-indexes", false, "make or remove no index")
	cmd.Flags().BoolVar(&write, "write", false, "change the settings instead of showing the change")
	return cmd
}
