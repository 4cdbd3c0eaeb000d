package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

const (
	driftPatience  = 3 * time.Second  // for the answers of agents
	repairPatience = 10 * time.Minute // for one to have its files again
)

func (a *App) driftCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drift [NODE]",
		Short: "Show files that were changed on a server, and not by a patch",
		Long: "Show files in the homes of the OMFLOW Servers that are not as the last patch, or the beginning, has left them. With\n" +
			"AGENT_WATCH=publish an agent makes them a patch for all servers when they have rested for a while; with report they stay until somebody\n" +
			"publishes them or undoes them. Exit code 1 if there are any. BASELINE is the same on servers that should be the same.",
		Example: "  omflow-booster nodes drift\n  omflow-booster nodes drift server-3 --repair",
		Args:    args(0, 1, "at most the name of one agent, as `nodes` shows it"),
	}
	repair := cmd.Flags().Bool("repair", false, "bring the files of NODE back from another server; what was changed there is lost, and it restarts")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		return a.withBus(func(c *bus.Client) error {
			nodes, err := livingNodes(cmd.Context(), c)
			if err != nil {
				return err
			}
			var names []string
			for _, n := range nodes {
				if n.Agent != nil && (len(given) == 0 || n.Name == given[0]) {
					names = append(names, n.Name)
				}
			}
			if len(given) > 0 && len(names) == 0 {
				return fmt.Errorf("no agent %s is alive; see `omflow-booster nodes`", oneLine(given[0]))
			}
			if *repair {
				if err := repairDrift(cmd.Context(), c, given); err != nil {
					return err
				}
			}
			list, err := askDrift(cmd.Context(), c, names)
			if err != nil {
				return err
			}
			if *asJSON {
				err = printJSON(a.Stdout, map[string]any{"nodes": list})
			} else {
				err = a.printDrift(list)
			}
			if err == nil && slices.ContainsFunc(list, func(d bus.Drift) bool { return d.Total > 0 }) {
				err = errDrift
			}
			return err
		})
	}
	return cmd
}

// repairDrift has one server bring its files back, and waits until it has.
func repairDrift(ctx context.Context, c *bus.Client, given []string) error {
	if len(given) == 0 {
		return usageError{errors.New("--repair is for one server; name it")}
	}
	ctx, cancel := context.WithTimeout(ctx, repairPatience)
	defer cancel()
	if _, err := c.NC.RequestWithContext(ctx, bus.RepairSubject(given[0]), nil); err != nil {
		return fmt.Errorf("%s was told to bring its files back: %w", oneLine(given[0]), err)
	}
	for bus.Sleep(ctx, followEvery) {
		list, err := askDrift(ctx, c, given)
		switch {
		case err != nil:
			return err
		case list[0].Repair != "":
			return fmt.Errorf("%s: %s", oneLine(given[0]), oneLine(list[0].Repair))
		case list[0].Total == 0:
			return nil
		}
	}
	return fmt.Errorf("%s has not brought its files back within %s", oneLine(given[0]), repairPatience)
}

// errDrift is said by the exit code.
var errDrift = fmt.Errorf("files were changed by hand")

// askDrift asks all agents, and waits until those that are named have answered.
func askDrift(ctx context.Context, c *bus.Client, names []string) ([]bus.Drift, error) {
	list := []bus.Drift{}
	if len(names) == 0 {
		return list, nil
	}
	names = slices.Clone(names)
	ctx, cancel := context.WithTimeout(ctx, driftPatience)
	defer cancel()
	err := bus.AskAll(ctx, c.NC, bus.DriftSubject, nil, func(answer []byte) bool {
		var d bus.Drift
		if json.Unmarshal(answer, &d) == nil && slices.Contains(names, d.Node) {
			names = slices.DeleteFunc(names, func(n string) bool { return n == d.Node })
			list = append(list, d)
		}
		return len(names) == 0
	})
	if err == nil && len(names) > 0 {
		err = fmt.Errorf("no answer from %s within %s", oneLine(strings.Join(names, ", ")), driftPatience)
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(x, y bus.Drift) int { return strings.Compare(x.Node, y.Node) })
	return list, nil
}

func (a *App) printDrift(list []bus.Drift) error {
	t := newTable(a.Stdout, "SERVER", "WATCH", "VERSION", "BASELINE", "CHANGED", "FOR", "PUBLISHED AS")
	for _, d := range list {
		since := ""
		if d.Since != nil {
			since = age(time.Since(*d.Since))
		}
		t.row(d.Node, d.Watch, d.Version, d.Baseline, d.Total, since, d.Published)
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, d := range list {
		for _, f := range d.Files {
			fmt.Fprintf(a.Stdout, "%s  %s %s\n", oneLine(d.Node), f.Kind, oneLine(f.Path))
		}
		for _, s := range d.Stays {
			fmt.Fprintf(a.Stdout, "%s  stays here: %s %s\n", oneLine(d.Node), oneLine(s.Path), oneLine(s.Why))
		}
		if more := d.StaysTotal - len(d.Stays); more > 0 {
			fmt.Fprintf(a.Stdout, "%s  and %d more that stay here\n", oneLine(d.Node), more)
		}
		if more := d.Total - len(d.Files); more > 0 {
			fmt.Fprintf(a.Stdout, "%s  and %d more\n", oneLine(d.Node), more)
		}
	}
	return nil
}
