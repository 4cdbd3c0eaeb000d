package cli

import "github.com/spf13/cobra"

// commands are those for people; the services are in services.go.
func (a *App) commands() []*cobra.Command {
	return []*cobra.Command{
		a.statusCommand(),
		a.workCommand(),
		a.deadCommand(),
		a.nodesCommand(),
		a.patchCommand(),
		a.joinCommand(),
		a.clusterCommand(),
		a.backupCommand(),
		a.restoreCommand(),
		a.doctorCommand(),
		a.adoptCommand(),
		a.versionCommand(),
	}
}
