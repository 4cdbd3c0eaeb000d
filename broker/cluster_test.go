package broker

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

// pair is two configurations of Boosters that know each other.
func pair(t *testing.T) (a, b Config) {
	t.Helper()
	a, b = testConfig(t), testConfig(t)
	a.ClusterPort, b.ClusterPort = testkit.FreePort(t), testkit.FreePort(t)
	a.IP, b.IP = "127.0.0.1", "127.0.0.1"
	a.HAIP, a.HAPort, a.HAClusterPort = b.IP, b.Port, b.ClusterPort
	b.HAIP, b.HAPort, b.HAClusterPort = a.IP, a.Port, a.ClusterPort
	a.Sync, b.Sync = Sync{Auto: true}, Sync{Auto: true}
	a.WitnessAfter, b.WitnessAfter = 2*time.Second, 2*time.Second
	a.AuditEvery, b.AuditEvery = time.Hour, time.Hour
	return a, b
}

// member is a Booster or witness of a test that is started and stopped at will.
type member struct {
	stop  func() error
	ended <-chan error
	ready <-chan struct{}
}

func run(t *testing.T, ready <-chan struct{}, run func(ctx context.Context) error) member {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx); close(ended) }()
	m := member{stop: func() error { cancel(); return <-ended }, ended: ended, ready: ready}
	t.Cleanup(func() { _ = m.stop() })
	return m
}

func (m member) wait(t *testing.T) {
	t.Helper()
	select {
	case <-m.ready:
	case <-time.After(timeout):
		t.Fatal("member of the cluster does not become ready")
	}
}

func startBooster(t *testing.T, cfg Config, name string) (*Broker, member) {
	t.Helper()
	b := made(t, cfg, zerolog.New(zerolog.NewTestWriter(t)).With().Str("b", name).Logger())
	return b, run(t, b.Ready(), b.Run)
}

// agentBeat is the heartbeat of an agent that would carry the witness.
func agentBeat(t *testing.T, c *bus.Client, name, address string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	started := time.Now()
	go func() {
		defer close(over)
		_ = bus.Heartbeat(ctx, c.JS, zerolog.Nop(), nil, func() bus.Node {
			n := candidate(name, "on", address)
			n.Started = started
			return n
		})
	}()
	stop = func() { cancel(); <-over }
	t.Cleanup(stop)
	return stop
}

// grant waits until an agent is appointed.
func grant(t *testing.T, b *Broker, agent string) bus.WitnessGrant {
	t.Helper()
	var g bus.WitnessGrant
	require.Eventually(t, func() bool {
		v := b.view()
		if v == nil || v.grant == nil || v.grant.Agent != agent {
			return false
		}
		g = *v.grant
		return true
	}, timeout, 20*time.Millisecond, "no witness appointed")
	return g
}

func startWitness(t *testing.T, g bus.WitnessGrant) member {
	t.Helper()
	return startWitnessIn(t, g, t.TempDir())
}

func startWitnessIn(t *testing.T, g bus.WitnessGrant, dir string) member {
	t.Helper()
	w, err := NewWitness(WitnessConfig{
		Config: logging.Config{Level: "info", Format: "auto"},
		Name:   g.Name, Address: g.Address, Boosters: g.Boosters, DataDir: dir,
	}, zerolog.New(zerolog.NewTestWriter(t)).With().Str("b", "witness").Logger())
	require.NoError(t, err)
	return run(t, w.Ready(), w.Run)
}

// activeOf waits for exactly one active Booster with everything in place.
func activeOf(t *testing.T, takeover string, boosters ...*Broker) (active *Broker) {
	t.Helper()
	var said atomic.Value
	if !assert.Eventually(t, func() bool {
		n := 0
		for _, b := range boosters {
			if b.active() {
				active, n = b, n+1
				said.Store(active.takeover())
			}
		}
		return n == 1 && said.Load() == takeover
	}, timeout, 50*time.Millisecond, "no active Booster in that state") {
		t.Fatalf("want %q, the active says %q", takeover, said.Load())
	}
	return active
}

func TestTwoBoostersAndAWitness(t *testing.T) {
	t.Parallel()
	cfgA, cfgB := pair(t)
	cfgA.Name, cfgB.Name = "台北.example.com", "高雄.example.com" // any name of a host works
	a, runA := startBooster(t, cfgA, "a")
	select {
	case <-a.Ready():
		t.Fatal("one Booster of two serves alone")
	case <-time.After(time.Second):
	}
	b, runB := startBooster(t, cfgB, "b")
	runA.wait(t)
	runB.wait(t)
	activeOf(t, "no automatic takeover: no witness", a, b)

	c, err := bus.Dial(bus.ClientConfig{IP: "127.0.0.1", Port: cfgA.Port, SecondIP: "127.0.0.1", SecondPort: cfgB.Port}, t.Name())
	require.NoError(t, err)
	t.Cleanup(c.Close)
	agentBeat(t, c, "om1.example.com", fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t)))
	first := activeOf(t, "no automatic takeover: no witness", a, b)
	witness := startWitness(t, grant(t, first, "om1.example.com"))
	witness.wait(t)
	first = activeOf(t, "ok", a, b)

	for n := range 100 {
		_, err := c.JS.Publish(t.Context(), fmt.Sprintf("work.k.f.q%d", n), []byte("x"))
		require.NoError(t, err)
	}
	// A planned stop hands over; the other one goes on with everything.
	second, firstRun, cfgFirst := b, runA, cfgA
	if first == b {
		second, firstRun, cfgFirst = a, runB, cfgB
	}
	began := time.Now()
	require.NoError(t, firstRun.stop())
	require.True(t, second.leads(), "the stop returns when the other one leads")
	require.Eventually(t, func() bool {
		_, err := c.JS.Publish(t.Context(), "work.k.f.q100", []byte("x"))
		return err == nil || bus.IsQueued(err)
	}, timeout, 10*time.Millisecond)
	t.Logf("planned stop: writes accepted again %s after its begin", time.Since(began))
	st, err := c.JS.Stream(t.Context(), bus.StreamWork)
	require.NoError(t, err)
	require.EqualValues(t, 101, st.CachedInfo().State.Msgs)

	again, againRun := startBooster(t, cfgFirst, "again")
	againRun.wait(t)
	activeOf(t, "ok", second, again)
}

func TestWitnessOfADeadHostIsReplaced(t *testing.T) {
	t.Parallel()
	cfgA, cfgB := pair(t)
	a, runA := startBooster(t, cfgA, "a")
	b, runB := startBooster(t, cfgB, "b")
	runA.wait(t)
	runB.wait(t)
	c, err := bus.Dial(bus.ClientConfig{IP: "127.0.0.1", Port: cfgA.Port}, t.Name())
	require.NoError(t, err)
	t.Cleanup(c.Close)
	beat1 := agentBeat(t, c, "server-1", fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t)))
	active := activeOf(t, "no automatic takeover: no witness", a, b)
	w1 := startWitness(t, grant(t, active, "server-1"))
	w1.wait(t)
	active = activeOf(t, "ok", a, b)
	old := active.view().grant.Name

	beat1()
	require.NoError(t, w1.stop())
	agentBeat(t, c, "server-2", fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t)))
	w2 := startWitness(t, grant(t, active, "server-2"))
	w2.wait(t)
	active = activeOf(t, "ok", a, b)
	v := active.view()
	require.Equal(t, 3, v.size)
	for _, p := range v.peers {
		require.NotEqual(t, old, p.name, "the earlier witness is removed")
	}
}
