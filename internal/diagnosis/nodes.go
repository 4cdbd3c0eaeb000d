package diagnosis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

// answerTimeout bounds every single question.
const answerTimeout = 5 * time.Second

func ask(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, answerTimeout)
}

// LivingNodes returns the entries of NODES, never nil: JSON shows an empty list as [].
func LivingNodes(ctx context.Context, c *bus.Client) ([]bus.Node, error) {
	ctx, cancel := ask(ctx)
	defer cancel()
	nodes, err := bus.Nodes(ctx, c.JS)
	if nodes == nil {
		nodes = []bus.Node{}
	}
	return nodes, err
}

// NodeProblems are those of `status` that are about the nodes: where the Boosters and the witness are, workers, agents and the servers
// beside them.
func NodeProblems(nodes []bus.Node, away []AwayServer) (found []Problem) {
	r := Report{Away: away}
	for _, n := range nodes {
		switch {
		case n.Booster != nil:
			r.Boosters = append(r.Boosters, n)
		case n.Worker != nil:
			r.Workers = append(r.Workers, n)
		case n.Agent != nil && !n.Agent.PatchAsks: // what an agent waits for is said already
			r.Agents = append(r.Agents, n)
		}
	}
	found = placementProblems(r)
	if len(r.Workers) > 0 { // that there is none shows
		found = append(found, workerProblems(r)...)
	}
	found = append(found, uploadProblems(r)...)
	found = append(found, agentProblems(r)...)
	return append(found, awayProblems(r)...)
}

// ActiveBooster is the one of two that is active, by what the Boosters say now or, where they are of an older release, by their heartbeats.
func ActiveBooster(ctx context.Context, c *bus.Client) (string, error) {
	nodes, err := LivingNodes(ctx, c)
	if err != nil {
		return "", err
	}
	r := Report{}
	for _, n := range nodes {
		if n.Booster != nil {
			r.Boosters = append(r.Boosters, n)
		}
	}
	r.show(bus.AskCluster(ctx, c.NC))
	for _, n := range r.Boosters {
		if n.Booster == nil || n.Booster.Duty != bus.DutyActive {
			continue
		}
		if n.Booster.Mode == bus.ModeStandalone {
			return "", fmt.Errorf("%s is the only Booster: there is none to hand over to", text.OneLine(n.Name))
		}
		return n.Name, nil
	}
	return "", errors.New("no Booster is active: leadership is moving, or there is no majority; see `omflow-booster status`")
}
