package diagnosis

import (
	"context"
	"os"
	"slices"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// nodesFound is what the heartbeats say that somebody should look at: why no Booster would take over, and what the agents of this host say.
func nodesFound(ctx context.Context, c *bus.Client) []Finding {
	const check = "agent"
	host, err := os.Hostname()
	if err != nil {
		return []Finding{Skipped(check, err.Error())}
	}
	nodes, err := bus.Nodes(ctx, c.JS)
	if err != nil {
		return []Finding{Skipped(check, err.Error())}
	}
	return append(judgeTakeover(nodes), judgeAgents(check, host, nodes)...)
}

func judgeTakeover(nodes []bus.Node) (findings []Finding) {
	var r Report
	r.sort(nodes)
	for _, p := range placementProblems(r) {
		findings = append(findings, Warning("takeover", p.Text, p.Hint))
	}
	return findings
}

func judgeAgents(check, host string, nodes []bus.Node) (findings []Finding) {
	var here Report
	here.sort(slices.DeleteFunc(slices.Clone(nodes), func(n bus.Node) bool { return n.Host != host }))
	for _, p := range agentProblems(here) {
		f := Warning(check, p.Text, p.Hint)
		if p.Severity() == SeverityNote {
			f.Verdict = VerdictOK
		}
		findings = append(findings, f)
	}
	switch {
	case len(here.Agents) == 0:
		return nil
	case len(findings) == 0:
		return []Finding{OK(check, "nothing to look at in the home of its OMFLOW Server")}
	}
	return findings
}
