package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/micro"
	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

const (
	driftTimeout  = 3 * time.Second  // for the answers of agents
	repairTimeout = 10 * time.Minute // for one to have its files again
)

func (a *App) driftCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drift [NODE]",
		Short: "Show files that were changed on a server, and not by a patch",
		Long: "Show files in the homes of the OMFLOW Servers that are not as the last patch, or the beginning, has left them.\n" +
			"With AGENT_WATCH=publish an agent makes them a patch for all servers when they have rested for a while; with\n" +
			"report they stay until somebody publishes them or undoes them. What looks like a lost disk (a tenth of all\n" +
			"files gone) or like older files that were copied here by mistake is held back until somebody says --publish.\n" +
			"Exit code 1 if there are any changes, or servers differ that are on the same patches. BASELINE is the same on\n" +
			"servers that should be the same.",
		Example: "  omflow-booster nodes drift\n  omflow-booster nodes drift server-3 --repair\n  omflow-booster nodes drift server-3 --publish",
		Args:    args(0, 1, "at most the name of one agent, as `nodes` shows it"),
	}
	repair := cmd.Flags().Bool("repair", false, "make NODE like the other servers again; what was changed there is lost, and it restarts")
	publish := cmd.Flags().Bool("publish", false, "what NODE holds back is meant: bring it to all servers")
	yes := cmd.Flags().Bool("yes", false, "with --publish: do not ask")
	out := a.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		return a.withBus(func(c *bus.Client) error {
			nodes, err := diagnosis.LivingNodes(cmd.Context(), c)
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
				return fmt.Errorf("no agent %s is alive; see `omflow-booster nodes`", text.OneLine(given[0]))
			}
			if *publish {
				return a.releaseDrift(cmd.Context(), c, given, *yes, out)
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
			err = firstError(printDrift(out, list), out.document(map[string]any{"nodes": list}))
			switch {
			case err != nil:
				return err
			case slices.ContainsFunc(list, func(d bus.Drift) bool { return d.Total > 0 }):
				return errDrift
			case !alike(list):
				return errMismatch
			}
			return nil
		})
	}
	return cmd
}

// repairDrift has one server bring its files back, and waits until it has.
func repairDrift(ctx context.Context, c *bus.Client, given []string) error {
	if len(given) == 0 {
		return usageError{errors.New("--repair is for one server; name it")}
	}
	ctx, cancel := context.WithTimeout(ctx, repairTimeout)
	defer cancel()
	if _, err := c.NC.RequestWithContext(ctx, bus.RepairSubject(given[0]), nil); err != nil {
		return fmt.Errorf("%s was told to bring its files back: %w", text.OneLine(given[0]), err)
	}
	for bus.Sleep(ctx, followEvery) {
		list, err := askDrift(ctx, c, given)
		switch {
		case err != nil:
			return err
		case list[0].Repair != "":
			return fmt.Errorf("%s: %s", text.OneLine(given[0]), text.OneLine(list[0].Repair))
		case list[0].Total == 0 && !list[0].Repairing:
			return nil
		}
	}
	return fmt.Errorf("%s has not brought its files back within %s", text.OneLine(given[0]), repairTimeout)
}

// errDrift is said by the exit code.
var errDrift = fmt.Errorf("files were changed by hand")

var errMismatch = errors.New("servers that are on the same patches do not have the same files (BASELINE): make one like most of the " +
	"others with --repair, " +
	"or all alike with `omflow-booster patch publish --exact`")

// alike tells whether servers that have dealt with all patches should have the same files.
func alike(list []bus.Drift) bool {
	last, baseline := uint64(0), ""
	for _, d := range list {
		last = max(last, d.Seq)
	}
	for _, d := range list {
		if d.Seq != last || d.Watch == "off" {
			continue
		}
		if baseline != "" && d.Baseline != baseline {
			return false
		}
		baseline = d.Baseline
	}
	return true
}

// releaseDrift tells a server that what it holds back is meant.
func (a *App) releaseDrift(ctx context.Context, c *bus.Client, given []string, yes bool, out *output) error {
	if len(given) == 0 {
		return usageError{errors.New("--publish is for one server; name it")}
	}
	list, err := askDrift(ctx, c, given)
	if err != nil {
		return err
	}
	d := list[0]
	if d.Held == "" {
		return fmt.Errorf("%s holds nothing back; see `omflow-booster nodes drift %s`", text.OneLine(d.Node), text.OneLine(d.Node))
	}
	if !yes {
		if err := printDrift(out, list); err != nil {
			return err
		}
		sure, err := confirm(a.Stdin, a.Stderr, fmt.Sprintf("%s changed on %s: bring that to all servers?", text.Counted(d.Total, "file"),
			text.OneLine(d.Node)))
		if err != nil || !sure {
			return err
		}
	}
	ctx, cancel := ask(ctx)
	defer cancel()
	reply, err := c.NC.RequestWithContext(ctx, bus.ReleaseSubject(d.Node), []byte(d.Digest))
	if err == nil && reply.Header.Get(micro.ErrorHeader) != "" {
		err = errors.New(text.OneLine(reply.Header.Get(micro.ErrorHeader)))
	}
	if err != nil {
		return fmt.Errorf("%s was told to publish its changes: %w", text.OneLine(d.Node), err)
	}
	fmt.Fprintf(out, "%s publishes them when they have rested; `omflow-booster patch ls` shows the patch.\n", text.OneLine(d.Node))
	return out.document(map[string]any{"node": d.Node, "files": d.Total, "digest": d.Digest})
}

// askDrift asks all agents, and waits until those that are named have answered.
func askDrift(ctx context.Context, c *bus.Client, names []string) ([]bus.Drift, error) {
	list := []bus.Drift{}
	if len(names) == 0 {
		return list, nil
	}
	names = slices.Clone(names)
	ctx, cancel := context.WithTimeout(ctx, driftTimeout)
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
		err = fmt.Errorf("no answer from %s within %s", text.OneLine(strings.Join(names, ", ")), driftTimeout)
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(x, y bus.Drift) int { return strings.Compare(x.Node, y.Node) })
	return list, nil
}

func printDrift(out io.Writer, list []bus.Drift) error {
	t := newTable(out, "SERVER", "WATCH", "VERSION", "BASELINE", "CHANGED", "FOR", "PUBLISHED AS")
	for _, d := range list {
		since := ""
		if d.Since != nil {
			since = text.Age(time.Since(*d.Since))
		}
		t.row(d.Node, d.Watch, d.Version, d.Baseline, d.Total, since, d.Published)
	}
	if err := t.flush(); err != nil {
		return err
	}
	for _, d := range list {
		if d.Held != "" {
			fmt.Fprintf(out, "%s  held back: %s; --publish brings it to all servers, --repair takes it back\n", text.OneLine(d.Node),
				text.OneLine(d.Held))
		}
		for _, f := range d.Files {
			fmt.Fprintf(out, "%s  %s %s\n", text.OneLine(d.Node), f.Kind, text.OneLine(f.Path))
		}
		if d.Moving != "" {
			fmt.Fprintf(out, "%s  waits until it has rested: %s\n", text.OneLine(d.Node), text.OneLine(d.Moving))
		}
		for _, s := range d.Stays {
			fmt.Fprintf(out, "%s  stays here: %s %s\n", text.OneLine(d.Node), text.OneLine(s.Path), text.OneLine(s.Why))
		}
		if more := d.StaysTotal - len(d.Stays); more > 0 {
			fmt.Fprintf(out, "%s  and %d more that stay here\n", text.OneLine(d.Node), more)
		}
		if more := d.Total - len(d.Files); more > 0 {
			fmt.Fprintf(out, "%s  and %d more\n", text.OneLine(d.Node), more)
		}
	}
	return nil
}
