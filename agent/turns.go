package agent

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

// turns are this server's places in the rollouts, which the active Booster gives.
type turns struct {
	js    jetstream.JetStream
	node  string
	every time.Duration // AGENT_PATCH_INTERVAL
}

// of is the place in the rollout of one patch.
func (t turns) of(patchID string) rollout.Turn {
	return rollout.Turn{JS: t.js, Patch: patchID, Node: t.node, Every: t.every}
}
