package cli

import "github.com/spf13/cobra"

func (a *App) workCommand() *cobra.Command {
	return group("work", "Look at waiting and running steps, and submit new ones", "",
		"  omflow-booster work ls --kind FormFlow\n"+
			"  omflow-booster work show q1024\n"+
			"  omflow-booster work submit items.jsonl",
		a.workListCommand(), a.workShowCommand(), a.workSubmitCommand())
}
