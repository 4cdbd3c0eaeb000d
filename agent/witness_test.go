package agent

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// put writes a value to a bucket.
func (n *node) put(bucket, key string, value []byte) {
	n.t.Helper()
	kv, err := n.client.JS.KeyValue(n.t.Context(), bucket)
	require.NoError(n.t, err)
	_, err = kv.Put(n.t.Context(), key, value)
	require.NoError(n.t, err)
}

// active puts the heartbeat of an active Booster on the bus.
func (n *node) active(takeover string) {
	n.t.Helper()
	b := bus.Node{Role: bus.ServiceBooster, Name: "booster-1", Booster: &bus.BoosterState{
		Mode: bus.ModeCluster, Duty: bus.DutyActive,
		Takeover: takeover,
	}}
	data, err := json.Marshal(b)
	require.NoError(n.t, err)
	n.put(bus.BucketNodes, b.Key(), data)
}

func TestHostOfTheWitnessIsLeftAloneWhileTheBoostersNeedIt(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	n := newNode(t, b, "srv1")
	n.cfg.Witness = "on"
	n.cfg.WitnessPort = freePort(t)
	n.put(bus.BucketControl, bus.KeyWitness, bus.WitnessGrant{
		Agent: "srv1", Name: bus.WitnessPrefix + "srv1-a", Address: "127.0.0.1:1",
		Boosters: []string{"127.0.0.1:2"},
	}.Encode())
	n.start()
	n.state(func(s bus.AgentState) bool { return s.WitnessState == "running" })
	n.eventually(func() bool { return n.count("worker-start") == 1 }, "worker runs")

	n.active("no automatic takeover: booster-2 does not answer")
	a := publish(t, n.client, map[string]string{"omflow/app.py": "v1"}, patch.Options{})
	r := n.report(a.ID, patch.StateRetrying)
	require.Contains(t, r.Error, "this host is the witness")
	require.Contains(t, r.Error, "booster-2 does not answer")
	n.state(func(s bus.AgentState) bool { return s.PatchState[:8] == "waiting:" })
	require.Equal(t, "v0", n.read("omflow/app.py"))
	require.Zero(t, n.count("worker-drains"), "nothing was stopped")
	other := newNode(t, b, "srv2")
	other.start()
	other.report(a.ID, patch.StateApplied) // a server that cannot use its turn does not keep it from the others

	n.eventually(func() bool { // heartbeats expire
		n.active(bus.TakeoverOK)
		return n.read("omflow/app.py") == "v1"
	}, "patch applied when everybody has everything")
	n.report(a.ID, patch.StateApplied)
}
