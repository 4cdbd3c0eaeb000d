package rollout

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// Waiting lists the plans in which no server gets a turn: nobody has approved them, somebody has paused them, failures have
// halted them, or too many servers are without service (Held). A plan may be left so when every server is through with its
// patch. One that cannot be read has StateUnreadable.
func Waiting(ctx context.Context, js jetstream.JetStream) ([]Plan, error) {
	entries, err := bus.ReadAll(ctx, js, bus.BucketRollout, bus.PlanPrefix+"*")
	var list []Plan
	for _, e := range entries {
		if len(e.Value) == 0 { // it was removed
			continue
		}
		var p Plan
		if err := json.Unmarshal(e.Value, &p); err != nil {
			p = Plan{Patch: strings.TrimPrefix(e.Key, bus.PlanPrefix), Standing: Standing{State: StateUnreadable, Reason: err.Error()}}
		}
		switch {
		case p.State == StateUnreadable:
			list = append(list, p)
		case p.State == StateApproval, p.State == StatePaused, p.State == StateHalted, p.State == StateRunning && p.Held != "":
			list = append(list, p)
		}
	}
	return list, err
}
