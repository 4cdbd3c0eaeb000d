package broker

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

// grown is two Boosters that have grown from one, with everything of aged in them, and a witness.
type grown struct {
	cfg          [2]Config
	boosters     [2]*Broker
	runs         [2]member
	witness      member
	witnessGrant bus.WitnessGrant
}

func startGrown(t *testing.T) *grown {
	t.Helper()
	var c grown
	c.cfg[0], c.cfg[1] = pair(t)
	aged(t, c.cfg[0])
	for i, cfg := range c.cfg {
		c.boosters[i], c.runs[i] = startBooster(t, cfg, fmt.Sprint(i))
	}
	for _, r := range c.runs {
		r.wait(t)
	}
	client := dial(t, c.cfg[0])
	beat := agentBeat(t, client, "server-1", fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t)))
	active := activeOf(t, "no automatic takeover: no witness", c.boosters[:]...)
	c.witnessGrant = grant(t, active, "server-1")
	c.witness = startWitness(t, c.witnessGrant)
	activeOf(t, "ok", c.boosters[:]...)
	beat()
	client.Close()
	return &c
}

func (c *grown) startSingle(i int) Config {
	cfg := c.cfg[i]
	cfg.HAIP, cfg.Sync = "", Sync{Interval: singleSync}
	return cfg
}

func TestTwoBoostersShrinkToOne(t *testing.T) {
	t.Parallel()
	c := startGrown(t)
	require.NoError(t, c.runs[0].stop())
	report, err := Shrink(t.Context(), c.cfg[0], zerolog.Nop(), ShrinkOptions{})
	require.NoError(t, err)
	require.Equal(t, bus.Streams-1, report.Streams)
	require.Contains(t, report.Left, c.boosters[1].name())
	require.NoError(t, <-c.runs[1].ended, "the other one has left by itself")

	_, stop := started(t, c.startSingle(0))
	sameAsBefore(t, c.startSingle(0), 1)
	control, err := dial(t, c.startSingle(0)).JS.KeyValue(t.Context(), bus.BucketControl)
	require.NoError(t, err)
	_, err = control.Get(t.Context(), bus.KeyWitness)
	require.Error(t, err, "nobody is witness any more")
	for _, left := range []string{memberAside, storeAside, growthDir} {
		require.NoDirExists(t, filepath.Join(c.cfg[0].DataDir, left))
	}

	// The other one does not come back with what it has, and nobody shrinks twice.
	var refused *config.Error
	require.ErrorAs(t, made(t, c.cfg[1], zerolog.Nop()).Run(t.Context()), &refused)
	require.ErrorContains(t, refused, "has left its cluster")
	require.NoError(t, stop())
	_, err = Shrink(t.Context(), c.cfg[0], zerolog.Nop(), ShrinkOptions{})
	require.ErrorContains(t, err, "is no member of a cluster")
}

func TestShrinkingNeedsToKnowTheOtherBooster(t *testing.T) {
	t.Parallel()
	c := startGrown(t)
	require.NoError(t, c.runs[1].stop())
	require.NoError(t, c.runs[0].stop())
	_, err := Shrink(t.Context(), c.cfg[0], zerolog.Nop(), ShrinkOptions{})
	require.ErrorContains(t, err, "--gone")
	require.Empty(t, c.boosters[0].store.bootState().Shrink)
	_, err = Shrink(t.Context(), c.cfg[0], zerolog.Nop(), ShrinkOptions{Gone: true})
	require.NoError(t, err)
	// A start that was killed in the middle goes on.
	s, err := openStore(t.Context(), c.cfg[0].DataDir, "", modeStandalone)
	require.NoError(t, err)
	require.NoError(t, s.shrink())
	s.close()
	started(t, c.startSingle(0))
	sameAsBefore(t, c.startSingle(0), 1)
}

func TestOneOfThreeIsLeft(t *testing.T) {
	t.Parallel()
	c := startGrown(t)
	require.NoError(t, c.runs[1].stop())
	require.NoError(t, c.witness.stop())
	require.NoError(t, c.runs[0].stop())
	report, err := Shrink(t.Context(), c.cfg[0], zerolog.New(zerolog.NewTestWriter(t)), ShrinkOptions{Lost: true})
	require.NoError(t, err)
	require.Len(t, report.Left, 2)

	// It founds a new cluster with a new Booster, or goes on alone; and changes its mind.
	fresh := c.cfg[1]
	fresh.DataDir = t.TempDir()
	lonely, runLonely := startBooster(t, c.cfg[0], "lonely")
	require.Eventually(t, func() bool { return lonely.view() != nil }, timeout, 50*time.Millisecond)
	require.NoError(t, runLonely.stop())
	_, stop := started(t, c.startSingle(0))
	sameAsBefore(t, c.startSingle(0), 1)
	require.NoError(t, stop())
	a, runA := startBooster(t, c.cfg[0], "a")
	b, runB := startBooster(t, fresh, "fresh")
	runA.wait(t)
	runB.wait(t)
	activeOf(t, "no automatic takeover: no witness", a, b)
	sameAsBefore(t, c.cfg[0], 2)
}

func TestABoosterThatLostItsDiskIsReplaced(t *testing.T) {
	t.Parallel()
	c := startGrown(t)
	old := c.boosters[1].name()
	require.NoError(t, c.runs[1].stop())
	fresh := c.cfg[1]
	fresh.DataDir = t.TempDir()
	b, run := startBooster(t, fresh, "fresh")
	run.wait(t)
	require.Eventually(t, func() bool { // before "ok" means anything: a member that has just gone counts as there for some seconds
		return slices.ContainsFunc([]*Broker{c.boosters[0], b}, func(b *Broker) bool {
			v := b.view()
			return v != nil && len(v.peers) == 3 && !slices.ContainsFunc(v.peers, func(p peer) bool { return p.name == old })
		})
	}, timeout, 50*time.Millisecond, "the lost Booster is still a member")
	activeOf(t, "ok", c.boosters[0], b)
	sameAsBefore(t, c.cfg[0], 3)
}

// Data that the other Booster already has cannot be moved to it. After a reported failure a second order moved everything back.
func TestHandOverIsNoFailureBecauseTheOtherHasSomeOfIt(t *testing.T) {
	t.Parallel()
	cfgA, cfgB := pair(t)
	a, runA := startBooster(t, cfgA, "a")
	b, runB := startBooster(t, cfgB, "b")
	runA.wait(t)
	runB.wait(t)
	active, other := activeOf(t, "no automatic takeover: no witness", a, b), b
	if active == b {
		other = a
	}
	control := active.now.Load().member.control
	control.placing.Lock() // the controller would take it back
	defer control.placing.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	has := func() bool {
		return other.now.Load().node.server.JetStreamIsConsumerLeader("$G", bus.StreamWork, bus.ConsumerWorkers)
	}
	require.Eventually(t, func() bool {
		if !has() {
			_ = control.cluster.moveLead(ctx, "$JS.API.CONSUMER.LEADER.STEPDOWN."+bus.StreamWork+"."+bus.ConsumerWorkers, other.name())
		}
		return has()
	}, timeout, 200*time.Millisecond)
	successor, err := control.moveAll(ctx)
	require.NoError(t, err)
	require.Equal(t, other.name(), successor)
	require.False(t, active.leads())
}

func TestStepDownHandsOver(t *testing.T) {
	t.Parallel()
	c := startGrown(t)
	active := activeOf(t, "ok", c.boosters[:]...)
	client := dial(t, c.cfg[0])
	reply, err := client.NC.Request(bus.StepDownSubject(active.name()), nil, timeout)
	require.NoError(t, err)
	require.NotContains(t, string(reply.Data), active.name())
	require.Eventually(t, func() bool { return !active.leads() }, timeout, 20*time.Millisecond)
	now := activeOf(t, "ok", c.boosters[:]...)
	require.NotEqual(t, active.name(), now.name())
	refused, err := client.NC.Request(bus.StepDownSubject(active.name()), nil, timeout)
	require.NoError(t, err)
	require.Equal(t, "this Booster is not active", refused.Header.Get("Nats-Service-Error"))
	_, err = client.NC.Request(bus.StepDownSubject("nobody"), nil, timeout)
	require.ErrorIs(t, err, nats.ErrNoResponders)
}

// A restore that did not come to its end begins anew, so nobody may have stored anything before.
func TestNobodyConnectsBeforeAllIsRestored(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	aged(t, cfg)
	s, err := openStore(t.Context(), cfg.DataDir, "", modeStandalone)
	require.NoError(t, err)
	require.NoError(t, newMove(s, timeout, zerolog.Nop(), nil).takeSingle(t.Context())) // the snapshot that a member would take
	require.NoError(t, s.change(func(m *bootState) { m.Mode, m.Shrink = modeCluster, shrinkTaken }))
	s.close()

	power := errors.New("power cut")
	first := made(t, cfg, zerolog.Nop())
	first.interrupt = func(at string) error {
		require.Equal(t, "restored alone", at)
		_, err := bus.Dial(bus.ClientConfig{IP: "127.0.0.1", Port: cfg.Port}, t.Name())
		require.Error(t, err)
		require.DirExists(t, filepath.Join(cfg.DataDir, memberAside))
		return power
	}
	require.ErrorIs(t, first.Run(t.Context()), power)
	b, _ := started(t, cfg)
	require.Empty(t, b.store.bootState().Shrink)
	sameAsBefore(t, cfg, 1)
	for _, left := range []string{memberAside, growthDir} {
		require.NoDirExists(t, filepath.Join(cfg.DataDir, left))
	}
}
