package agent

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

// What 500 agents cost a Booster: messages a second while nothing happens, and messages for one patch, ten servers at a time.
func BenchmarkFleet(b *testing.B) {
	const size, idle = 500, 30 * time.Second
	bench := newBusWith(b, rollout.Policy{MaxUnavailable: 10})
	fleet(b, bench, size, 10*time.Second)
	c := bench.Client()
	require.Eventually(b, func() bool {
		nodes, err := bus.Nodes(b.Context(), c.JS)
		return err == nil && len(nodes) == size
	}, 5*time.Minute, time.Second, "fleet")
	for b.Loop() {
		before := bench.Messages()
		time.Sleep(idle)
		b.ReportMetric(float64(bench.Messages()-before)/idle.Seconds(), "idle-msgs/s")
		reads := spyOn(b, bench, "GET")
		before, began := bench.Messages(), time.Now()
		a := publish(b, c, map[string]string{"omflow/app.py": time.Now().String()}, patch.Options{Hooks: patch.Hooks{Restart: patch.RestartNone}})
		rolledOut(b, c, a.ID, size, 20*time.Minute)
		b.ReportMetric(float64(bench.Messages()-before), "msgs/patch")
		b.ReportMetric(float64(reads.Load()), "reads/patch")
		b.ReportMetric(time.Since(began).Seconds(), "s/patch")
	}
}
