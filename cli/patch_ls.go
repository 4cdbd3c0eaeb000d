package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

func (a *App) patchListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the patches in order, with what became of each on every server",
		Long: "List the patches in the order in which they are applied. NODES groups the agents by what became of the patch\n" +
			"there: applied; failed, for good, see the reasons below the table; skipped, older than what the server has;\n" +
			"retrying; waiting; away, not alive.",
		Example: "  omflow-booster patch ls\n  omflow-booster patch ls --json",
		Args:    noArgs(),
	}
	out := a.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.withBus(func(c *bus.Client) error {
			list, err := diagnosis.ListPatches(cmd.Context(), c)
			if err != nil {
				return err
			}
			return firstError(printPatches(out, list, time.Now()), out.document(map[string]any{"patches": list}))
		})
	}
	return cmd
}

func printPatches(out io.Writer, list []diagnosis.Patch, now time.Time) error {
	if len(list) == 0 {
		fmt.Fprintln(out, "no patch was published yet")
		return nil
	}
	t := newTable(out, "PATCH", "AGE", "FROM", "TO", "FILES", "SIZE", "AUTHOR", "NODES", "NOTE")
	for _, p := range list {
		t.row(p.ID, text.Age(now.Sub(p.Created)), p.From, p.To, p.Files+p.Deletions, text.Size(p.Bytes), p.Author, byState(p.Nodes),
			text.Shorten(p.Note, 40))
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, p := range list {
		for _, n := range p.Nodes {
			if n.Error != "" && n.State != patch.StateSkipped {
				fmt.Fprintf(out, "%s %s on %s: %s\n", p.ID, n.State, n.Node, text.OneLine(n.Error))
			}
		}
	}
	return nil
}

// byState writes nodes grouped by state: "applied a, b; failed c".
func byState(nodes []diagnosis.NodePatch) string {
	var groups []string
	for _, state := range []string{
		patch.StateApplied, patch.StateSkipped, diagnosis.StateWaiting, diagnosis.StateAway, patch.StateRetrying, patch.StateConflict,
		patch.StateRolledBack, patch.StateFailed,
	} {
		var names []string
		for _, n := range nodes {
			if n.State == state {
				names = append(names, n.Node)
			}
		}
		if len(names) > 0 {
			groups = append(groups, state+" "+strings.Join(names, ", "))
		}
	}
	return strings.Join(groups, "; ")
}
