package diagnosis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
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

// sort adds heartbeats to the report, by what wrote them. Whoever judges heartbeats begins here.
func (r *Report) sort(nodes []bus.Node) {
	for _, n := range nodes {
		switch n.Role {
		case bus.ServiceBooster:
			r.Boosters = append(r.Boosters, n)
		case bus.ServiceWorker:
			r.Workers = append(r.Workers, n)
		case bus.ServiceAgent:
			r.Agents = append(r.Agents, n)
		}
	}
}

// NodeProblems are those of `status` that are about the nodes: where the Boosters and the witness are, workers, agents and the servers
// beside them.
func NodeProblems(nodes []bus.Node, away []AwayServer) (found []Problem) {
	r := Report{Away: away}
	r.sort(nodes)
	r.Agents = slices.DeleteFunc(r.Agents, func(n bus.Node) bool { return n.Agent != nil && n.Agent.PatchAsks }) // which is said already
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
	var r Report
	r.sort(nodes)
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

// AwayServer is an OMFLOW Server whose agent does not answer.
type AwayServer struct {
	Name string    `json:"name"`
	Seen time.Time `json:"seen"` // it was heard up to an hour later than that
	Runs bool      `json:"runs"` // its agent started an OMFLOW Server
}

// AwayServers are the servers that were there and whose agent is not among the living nodes, never nil.
func AwayServers(ctx context.Context, c *bus.Client, living []bus.Node) ([]AwayServer, error) {
	away := []AwayServer{}
	call, cancel := ask(ctx)
	defer cancel()
	list, err := rollout.Roster(call, c.JS)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return away, nil
	}
	if err != nil {
		return away, err
	}
	for _, k := range list {
		if !slices.ContainsFunc(living, func(n bus.Node) bool { return n.Role == bus.ServiceAgent && n.Name == k.Name }) {
			away = append(away, AwayServer{Name: k.Name, Seen: k.Seen, Runs: k.Runs})
		}
	}
	return away, nil
}
