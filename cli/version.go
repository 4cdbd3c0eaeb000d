package cli

import (
	"fmt"
	"runtime"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/buildinfo"
)

type versionReport struct {
	Version    string `json:"version"`
	Go         string `json:"go"`
	NATSServer string `json:"nats_server"` // that runs inside a Booster
	Platform   string `json:"platform"`
}

func (a *App) versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print which omflow-booster this is",
		Example: "  omflow-booster version --json",
		Args:    noArgs(),
	}
	out := a.output(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		report := versionReport{
			Version:    buildinfo.Version(),
			Go:         buildinfo.Go(),
			NATSServer: server.VERSION,
			Platform:   runtime.GOOS + "/" + runtime.GOARCH,
		}
		_, err := fmt.Fprintf(out, "omflow-booster %s (%s, NATS server %s, %s)\n",
			report.Version, report.Go, report.NATSServer, report.Platform)
		return firstError(err, out.document(report))
	}
	return cmd
}
