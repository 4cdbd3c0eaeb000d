package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/join"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

// checkFleet refuses a patch whose rollout could only fail or wait for ever: its canary is nobody, or no server has, or will
// have, the version that it is for. Without a server to be seen it refuses nothing.
func checkFleet(ctx context.Context, c *bus.Client, artifact string, keys *join.File, careful *rollout.Policy) error {
	nodes, err := diagnosis.LivingNodes(ctx, c)
	if err != nil {
		return err
	}
	nodes = slices.DeleteFunc(nodes, func(n bus.Node) bool { return n.Agent == nil })
	if err := checkCanary(nodes, careful); err != nil || len(nodes) == 0 {
		return err
	}
	in, err := os.Open(artifact)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	m, err := patch.Head(in, patch.DefaultLimit, keys.Verify)
	if err != nil {
		return nil // storing it reads all of it, and says what is wrong
	}
	if m.From == "" {
		return checkTo(m, nodes)
	}
	announced, err := patch.List(ctx, c.JS)
	if err != nil {
		return err
	}
	return checkFrom(m.From, nodes, announced)
}

func checkCanary(agents []bus.Node, careful *rollout.Policy) error {
	if careful == nil || careful.Canary == "" {
		return nil
	}
	var names []string
	for _, n := range agents {
		names = append(names, n.Name)
	}
	if slices.Contains(names, careful.Canary) {
		return nil
	}
	return usageError{fmt.Errorf("--canary %s: no agent of that name is alive; there is %s", text.OneLine(careful.Canary), orNone(names))}
}

// checkFrom knows of a server that is behind: it will have the version of a patch that is announced already.
func checkFrom(from string, agents []bus.Node, announced []patch.Announcement) error {
	var versions []string
	for _, n := range agents {
		if n.Agent.HomeVersion == "" || n.Agent.HomeVersion == from {
			return nil // a version that is not known is not held against the patch
		}
		versions = append(versions, fmt.Sprintf("%s has %s", text.OneLine(n.Name), text.OneLine(n.Agent.HomeVersion)))
	}
	if slices.ContainsFunc(announced, func(a patch.Announcement) bool { return a.To == from }) {
		return nil
	}
	return usageError{fmt.Errorf("--from %s: no server has that version: %s", text.OneLine(from), strings.Join(versions, ", "))}
}

// checkTo refuses an older version that every server would pass over.
func checkTo(m patch.Manifest, agents []bus.Node) error {
	if m.Reverts != "" || slices.ContainsFunc(agents, func(n bus.Node) bool { return !patch.Older(m.To, n.Agent.HomeVersion) }) {
		return nil
	}
	return usageError{fmt.Errorf("it leads to version %s, and every server has a newer one (%s has %s), so all would pass it over: if "+
		"going back is meant, say --from %s",
		text.OneLine(m.To), text.OneLine(agents[0].Name), text.OneLine(agents[0].Agent.HomeVersion), text.OneLine(agents[0].Agent.HomeVersion))}
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return text.OneLine(strings.Join(names, ", "))
}
