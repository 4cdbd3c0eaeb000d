package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

// fleet runs agents without servers on one bus. every is how often they look for what they were not told of.
func fleet(t testing.TB, b *bustest.Bus, size int, every time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	t.Cleanup(func() { cancel(); group.Wait() })
	key, err := ours()
	require.NoError(t, err)
	for i := range size {
		cfg := Config{
			ClientConfig:  b.Config(),
			ServerConfig:  ServerConfig{Home: t.TempDir()},
			DataConfig:    DataConfig{DataDir: t.TempDir(), Name: fmt.Sprintf("srv%03d", i), Worker: "off"},
			WitnessConfig: WitnessConfig{Witness: "off", WitnessPort: 5169},
			ProcessConfig: ProcessConfig{
				StopTimeout: timeout, HealthTimeout: timeout, HealthEvery: time.Second, Settle: time.Second,
				RestartMin: time.Second, RestartMax: time.Minute,
			},
			FilesConfig: FilesConfig{Watch: watchOff, Provision: "off", WatchQuiet: 5 * time.Second, WatchEvery: time.Minute},
			PatchConfig: PatchConfig{PatchEvery: every, PatchRetry: 2 * time.Second, HookTimeout: timeout},
			LogConfig:   LogConfig{LogSize: "10MB", LogKeep: 5, LogDir: "off"},
		}
		cfg.Level, cfg.Format = "error", "json"
		cfg.Python = "python3"
		cfg.SecondPort = 5169
		cfg.JoinFile = t.TempDir() + "/join.json"
		require.NoError(t, key.Public().Create(cfg.JoinFile))
		a, err := New(cfg, Deps{Client: b.Client()}, zerolog.Nop())
		require.NoError(t, err)
		group.Go(func() {
			if err := a.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// spyOn counts the requests to JetStream that go by and whose subject contains part.
func spyOn(t testing.TB, b *bustest.Bus, part string) *atomic.Int64 {
	t.Helper()
	var n atomic.Int64
	c := b.Client()
	_, err := c.NC.Subscribe("$JS.API.>", func(m *nats.Msg) {
		if strings.Contains(m.Subject, part) {
			n.Add(1)
		}
	})
	require.NoError(t, err)
	require.NoError(t, c.NC.Flush())
	return &n
}

// rolledOut waits until so many nodes have reported a patch.
func rolledOut(t testing.TB, c *bus.Client, id string, size int, within time.Duration) {
	t.Helper()
	require.Eventually(t, func() bool {
		keys, err := bus.Keys(context.Background(), c.JS, bus.BucketRollout, id+".*")
		return err == nil && len(keys) == size
	}, within, 200*time.Millisecond, "patch on every server")
}

// What a patch costs a node does not grow with the fleet: a node reads the plan when it is its turn, and not whenever somebody
// else has his.
func TestNodesOfAFleetReadThePlanWhenItConcernsThem(t *testing.T) {
	t.Parallel()
	const size = 40
	b := newBusWith(t, rollout.Policy{MaxUnavailable: 2})
	fleet(t, b, size, time.Hour)
	c := b.Client()
	require.Eventually(t, func() bool {
		nodes, err := bus.Nodes(t.Context(), c.JS)
		return err == nil && len(nodes) == size
	}, timeout, poll, "fleet")
	reads := spyOn(t, b, "STREAM.MSG.GET.KV_"+bus.BucketRollout)
	a := publish(t, c, map[string]string{"omflow/app.py": "v1"}, patch.Options{Hooks: patch.Hooks{Restart: patch.RestartNone}})
	rolledOut(t, c, a.ID, size, 4*timeout)
	t.Logf("%.1f reads of %s for each node", float64(reads.Load())/size, bus.BucketRollout)
	require.Less(t, reads.Load(), int64(12*size))
}

// A large artifact is not fetched by all at once: nodes that are far from their turn wait.
func TestLargeArtifactIsFetchedWhenTheTurnIsNear(t *testing.T) {
	t.Parallel()
	const size = 20
	b := newBus(t)
	fleet(t, b, size, time.Hour)
	c := b.Client()
	name, m := artifact(t, map[string]string{"large.bin": randomText(2 * fetchedByAll)},
		patch.Options{Hooks: patch.Hooks{Restart: patch.RestartNone}})
	require.NoError(t, rollout.Create(t.Context(), c.JS, m.ID, rollout.Policy{MaxUnavailable: 1, Approval: true}))
	var gaps atomic.Int64 // times that a node did not say that it is at it, between its wish and having it
	fetching := map[string]bool{}
	_, err := c.NC.Subscribe("$KV."+bus.BucketNodes+"."+bus.ServiceAgent+".*", func(msg *nats.Msg) {
		var n bus.Node
		if json.Unmarshal(msg.Data, &n) != nil || n.Agent == nil {
			return
		}
		if fetching[n.Name] && n.Agent.PatchWants == "" && n.Agent.PatchNext == "" {
			gaps.Add(1)
		}
		fetching[n.Name] = n.Agent.PatchWants == m.ID
	})
	require.NoError(t, err)
	republish(t, c, name)
	var fetched []string
	agents := func() (wants, ready int) {
		nodes, err := bus.Nodes(t.Context(), c.JS)
		require.NoError(t, err)
		fetched = nil
		for _, n := range nodes {
			switch m.ID {
			case n.Agent.PatchWants:
				wants++
			case n.Agent.PatchNext:
				ready++
				fetched = append(fetched, n.Name)
			}
		}
		return wants, ready
	}
	require.Eventually(t, func() bool {
		wants, ready := agents()
		return ready == 5 && wants == size-5
	}, timeout, poll, "the first ones have fetched it, and the others wait")
	require.NoError(t, rollout.Approve(t.Context(), c.JS, m.ID, "ann"))
	rolledOut(t, c, m.ID, size, 4*timeout)
	require.Len(t, slices.Compact(fetched), 5)
	require.Zero(t, gaps.Load(), "who fetches counts until he has it")
}

// randomText is text that cannot be compressed.
func randomText(bytes int) string {
	random := rand.New(rand.NewPCG(1, 2))
	text := make([]byte, bytes)
	for i := range text {
		text[i] = byte(random.Uint32())
	}
	return string(text)
}
