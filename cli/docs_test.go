package cli

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/config"
)

// README says that each command for people has --json; its help shows an example.
func TestEveryCommandForPeopleHasJSON(t *testing.T) {
	t.Parallel()
	services := []string{"broker", "worker", "agent", "witness", "help", "completion"}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if slices.Contains(services, cmd.Name()) {
			return
		}
		if !cmd.HasSubCommands() && cmd.Flags().Lookup("json") == nil {
			t.Errorf("`%s` has no --json", cmd.CommandPath())
		}
		if cmd.Example == "" {
			t.Errorf("the help of `%s` has no example", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk((&App{Stdout: &strings.Builder{}}).root())
}

// The table of ports is complete: people open firewalls by it.
func TestEveryPortIsInTheTableOfPorts(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "| port | from | to | variable |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	if !found {
		t.Fatal("no table of ports")
	}
	for _, spec := range serviceConfigs() {
		for _, v := range config.Variables(spec) {
			if strings.HasSuffix(v.Name, "_PORT") && !strings.Contains(table, "`"+v.Name+"`") {
				t.Errorf("%s is not in the table of ports", v.Name)
			}
		}
	}
}
