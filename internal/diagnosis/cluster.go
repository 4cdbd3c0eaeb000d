package diagnosis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// CodeNoMajority is the code of the problem that no majority of the members answers.
const CodeNoMajority = "no_majority"

// dutySilent is shown for a Booster that nobody is connected to: its last heartbeat stays for some seconds.
const dutySilent = "silent"

// stuck fills in what is known without a majority: who answers, and who does not.
func (r *Report) stuck(cluster bus.Cluster, why *bus.NoMajorityError) {
	r.show(cluster)
	r.Problems = []Problem{{CodeNoMajority, why.Problem(), why.Fix()}}
	r.judge()
}

// show corrects what the heartbeats say of Boosters by what the Boosters themselves say at this moment: heartbeats are seconds
// old, and two of them may both say that their Booster is active. A Booster that does not answer this question, of an older
// release or frozen, is shown as its heartbeat has it.
func (r *Report) show(cluster bus.Cluster) {
	shown := map[string]bus.Node{}
	for _, n := range r.Boosters {
		shown[n.Name] = n
	}
	for _, m := range cluster.Missing() {
		n := shown[m.Name]
		if m.Role != bus.ServiceBooster {
			continue
		}
		state := bus.BoosterState{Address: m.Address}
		if n.Booster != nil {
			state = *n.Booster
		}
		state.Duty, state.Takeover = dutySilent, ""
		n.Role, n.Name, n.Booster = bus.ServiceBooster, cmp.Or(m.Name, "-"), &state
		shown[n.Name] = n
	}
	for _, s := range cluster {
		shown[s.Name] = s.Node
	}
	active, newest := cluster.Active(), time.Time{}
	for _, n := range shown {
		if len(cluster) == 0 && n.Booster != nil && n.Booster.Duty == bus.DutyActive && n.At.After(newest) {
			active, newest = n.Name, n.At
		}
	}
	r.Boosters = []bus.Node{}
	for _, n := range shown {
		if n.Booster != nil && n.Booster.Duty == bus.DutyActive && active != "" && n.Name != active {
			state := *n.Booster
			state.Duty, state.Takeover = bus.DutyStandby, ""
			n.Booster = &state
		}
		r.Boosters = append(r.Boosters, n)
	}
	slices.SortFunc(r.Boosters, func(a, b bus.Node) int { return cmp.Compare(a.Name, b.Name) })
}

// ExplainSilence says why a question about a stream was not answered, if the Boosters know.
func ExplainSilence(ctx context.Context, nc *nats.Conn, err error) error {
	var api *jetstream.APIError
	unanswered := errors.As(err, &api) && api.Code == 503 || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse)
	if err == nil || !unanswered || ctx.Err() != nil {
		return err
	}
	cluster := bus.AskCluster(ctx, nc)
	if why := cluster.Err(); why != nil {
		return why
	}
	if len(cluster) > 0 && cluster.Active() == "" {
		return fmt.Errorf("no Booster is active at this moment: leadership is moving, which takes ten seconds at most; try again (%w)", err)
	}
	return err
}
