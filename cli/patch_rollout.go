package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

// followEvery is how often --follow looks.
const followEvery = 500 * time.Millisecond

// policyFlags are what people say about the care of a rollout. The policy is nil when they say nothing: then it is that of the Booster.
func policyFlags(cmd *cobra.Command) func() (*rollout.Policy, error) {
	p := &rollout.Policy{}
	names := []string{"max-unavailable", "max-failures", "canary", "window", "approval"}
	cmd.Flags().IntVar(&p.MaxUnavailable, names[0], 1, "servers that may be without service at the same time")
	cmd.Flags().IntVar(&p.MaxFailures, names[1], 0, "servers on which it may fail before the rollout halts")
	cmd.Flags().StringVar(&p.Canary, names[2], "", "server that gets it first (default: whichever is ready first)")
	cmd.Flags().StringVar(&p.Window, names[3], "",
		"time of day in which servers are patched, by the clock of the Booster, such as 22:00-05:00 (default: always)")
	cmd.Flags().BoolVar(&p.Approval, names[4], false, "wait until somebody approves it (`patch approve`) before the first server")
	return func() (*rollout.Policy, error) {
		if !slices.ContainsFunc(names, cmd.Flags().Changed) {
			return nil, nil //nolint:nilnil // no policy is what is asked for
		}
		if err := p.Validate(); err != nil {
			return nil, usageError{err}
		}
		return p, nil
	}
}

// shownPatch is a patch as `patch show --json` prints it.
type shownPatch struct {
	diagnosis.Patch
	Rollout *rollout.Plan `json:"rollout"` // null before a server has asked for it
}

func (a *App) patchShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show PATCH",
		Short: "Show how the rollout of a patch stands, on every server",
		Long: "Show how the rollout of a patch stands, on every server. With --follow it goes on until every living server is\n" +
			"through with the patch, or the rollout needs somebody: exit code 0 if it is applied everywhere or passed over,\n" +
			"1 otherwise.",
		Example: "  omflow-booster patch show 20260131-094500123-k3v7q2mx --follow",
		Args:    args(1, 1, "the id of a patch, as `patch ls` shows it"),
	}
	follow := cmd.Flags().Bool("follow", false, "go on until it is over")
	out := a.output(cmd)
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		return a.withBus(func(c *bus.Client) error {
			if *follow {
				return a.followPatch(cmd.Context(), c, given[0], out)
			}
			p, err := showPatch(cmd.Context(), c, given[0])
			if err != nil {
				return err
			}
			return printPatch(out, p)
		})
	}
	return cmd
}

// errUnannounced is returned for an id of which PATCH has no announcement.
var errUnannounced = errors.New("no patch of that id is announced")

// showPatch is a patch with its rollout.
func showPatch(ctx context.Context, c *bus.Client, id string) (shownPatch, error) {
	list, err := diagnosis.ListPatches(ctx, c)
	if err != nil {
		return shownPatch{}, err
	}
	i := slices.IndexFunc(list, func(p diagnosis.Patch) bool { return p.ID == id })
	if i < 0 {
		return shownPatch{}, fmt.Errorf("patch %s: %w; see `omflow-booster patch ls`", text.OneLine(id), errUnannounced)
	}
	shown := shownPatch{Patch: list[i]}
	ctx, cancel := ask(ctx)
	defer cancel()
	p, ok, err := rollout.Read(ctx, c.JS, id)
	if ok {
		shown.Rollout = &p
	}
	return shown, err
}

func printPatch(out *output, p shownPatch) error {
	fmt.Fprintf(out, "patch    %s\nnote     %s\nby       %s\nrollout  %s\n", p.ID, text.OneLine(p.Note), text.OneLine(p.Author),
		text.OneLine(p.state()))
	if p.Rollout != nil && p.Rollout.ApprovedBy != "" {
		fmt.Fprintf(out, "approved by %s, %s\n", text.OneLine(p.Rollout.ApprovedBy),
			p.Rollout.ApprovedAt.Local().Format("2006-01-02 15:04:05"))
	}
	if p.Rollout != nil && !p.Rollout.Migration.Done.IsZero() {
		fmt.Fprintf(out, "database migrated by %s\n", text.OneLine(p.Rollout.Migration.Node))
	}
	t := newTable(out, "SERVER", "STATE", "REASON")
	for _, n := range p.Nodes {
		state := n.State
		if p.Rollout != nil && p.Rollout.Open(n.Node) && state == diagnosis.StateWaiting {
			state = "at it"
		}
		t.row(n.Node, state, n.Error)
	}
	return firstError(t.flush(), out.document(p))
}

// state says in words how the rollout stands.
func (p shownPatch) state() string {
	switch {
	case p.Rollout == nil || p.Rollout.State == "":
		return "no server has asked for it yet"
	case p.Rollout.State == rollout.StateRunning && p.Over():
		if without := p.without(); len(without) > 0 {
			return "over, and not on every server: " + strings.Join(without, "; ")
		}
		return "complete"
	case p.Rollout.State == rollout.StateRunning && p.Rollout.Held != "":
		return "running, but no server gets its turn: " + p.Rollout.Held
	case p.Rollout.State == rollout.StateRunning:
		return "running"
	}
	text := p.Rollout.State
	if p.Rollout.By != "" {
		text += " by " + p.Rollout.By
	}
	if p.Rollout.Reason != "" {
		text += ": " + p.Rollout.Reason
	}
	return text
}

// without says which living servers are through and do not have the patch, and why: they differ from those that have it.
func (p shownPatch) without() (list []string) {
	for _, n := range p.Nodes {
		if n.State == patch.StateSkipped || n.State == patch.StateFailed || n.State == patch.StateRolledBack {
			list = append(list, strings.TrimSuffix(n.State+" on "+n.Node+": "+n.Error, ": "))
		}
	}
	return list
}

// settled tells whether nothing is left of the rollout: no server, living or away, has yet to take the patch.
func (p shownPatch) settled() bool {
	return p.Over() && !slices.ContainsFunc(p.Nodes, func(n diagnosis.NodePatch) bool { return n.State == diagnosis.StateAway })
}

// followPatch prints what changes, until nothing can without somebody.
func (a *App) followPatch(ctx context.Context, c *bus.Client, id string, out *output) error {
	said := map[string]string{}
	for {
		p, err := showPatch(ctx, c, id)
		if ctx.Err() != nil {
			return a.leaveRollout(id)
		}
		if err != nil {
			return err
		}
		printChanges(out, p, said)
		// One without a state was only suggested: the Booster has not looked yet.
		halted := p.Rollout != nil && p.Rollout.State != "" && p.Rollout.State != rollout.StateRunning
		if p.Over() || halted {
			if err := printFollowed(out, p); err != nil {
				return err
			}
			failed := slices.ContainsFunc(p.Nodes, func(n diagnosis.NodePatch) bool {
				return n.State == patch.StateFailed ||
					n.State == patch.StateRolledBack
			})
			if without := p.without(); halted || failed || len(without) > 0 && len(without) < len(p.Nodes) {
				return errors.New("the patch is not applied on every server")
			}
			return nil
		}
		if !bus.Sleep(ctx, followEvery) {
			return a.leaveRollout(id)
		}
	}
}

// leaveRollout is the end of looking on, which somebody wanted. It is no failure, and the patch goes its way.
func (a *App) leaveRollout(id string) error {
	_, err := fmt.Fprintf(a.Stderr, "The rollout of %s goes on; `omflow-booster patch show %s --follow` shows it.\n", text.OneLine(id),
		text.OneLine(id))
	return err
}

func printFollowed(out *output, p shownPatch) error {
	fmt.Fprintf(out, "%s  rollout: %s\n", time.Now().Format(time.TimeOnly), text.OneLine(p.state()))
	return out.document(p)
}

func printChanges(out io.Writer, p shownPatch, said map[string]string) {
	now := map[string]string{}
	for _, n := range p.Nodes {
		now[n.Node] = strings.TrimSuffix(n.State+": "+n.Error, ": ")
		if p.Rollout != nil && p.Rollout.Open(n.Node) && n.State == diagnosis.StateWaiting {
			now[n.Node] = "at it"
		}
	}
	for _, node := range slices.Sorted(maps.Keys(now)) {
		if said[node] != now[node] {
			said[node] = now[node]
			fmt.Fprintf(out, "%s  %s: %s\n", time.Now().Format(time.TimeOnly), text.OneLine(node), text.OneLine(now[node]))
		}
	}
}
