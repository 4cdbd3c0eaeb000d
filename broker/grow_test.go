package broker

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

const growSteps = 2000

// aged is a data directory that a single Booster has worked in, and what is in it.
func aged(t *testing.T, cfg Config) {
	t.Helper()
	cfg.HAIP, cfg.Sync = "", Sync{Interval: singleSync}
	_, stop := started(t, cfg)
	c := dial(t, cfg)
	defer c.Close()
	for n := range growSteps {
		_, err := c.JS.PublishAsync(fmt.Sprintf("work.k.f.q%d", n+1), []byte("x"))
		require.NoError(t, err)
	}
	<-c.JS.PublishAsyncComplete()
	_, err := c.JS.Publish(t.Context(), "dead.k.f.q9999", []byte("dead"))
	require.NoError(t, err)
	kv, err := c.JS.KeyValue(t.Context(), bus.BucketControl)
	require.NoError(t, err)
	_, err = kv.PutString(t.Context(), "pause", "on")
	require.NoError(t, err)
	store, err := c.JS.ObjectStore(t.Context(), bus.ObjectPatches)
	require.NoError(t, err)
	_, err = store.PutBytes(t.Context(), "p1", make([]byte, 300_000))
	require.NoError(t, err)
	cons, err := c.JS.Consumer(t.Context(), bus.StreamWork, bus.ConsumerWorkers)
	require.NoError(t, err)
	batch, err := cons.Fetch(10) // ten that are running, of which five are done
	require.NoError(t, err)
	done := 0
	for msg := range batch.Messages() {
		if done++; done <= 5 {
			require.NoError(t, msg.DoubleAck(t.Context()))
		}
	}
	require.NoError(t, stop())
}

// sameAsBefore checks that everything of aged is there. Leaders may be moving still, so it asks until all of it is answered.
func sameAsBefore(t *testing.T, cfg Config, replicas int) {
	t.Helper()
	c := dial(t, cfg)
	defer c.Close()
	require.EventuallyWithT(t, func(now *assert.CollectT) {
		work, err := c.JS.Stream(t.Context(), bus.StreamWork)
		require.NoError(now, err)
		require.EqualValues(now, growSteps-5, work.CachedInfo().State.Msgs)
		require.Equal(now, replicas, work.CachedInfo().Config.Replicas)
		dead, err := c.JS.Stream(t.Context(), bus.StreamDead)
		require.NoError(now, err)
		require.EqualValues(now, 1, dead.CachedInfo().State.Msgs)
		kv, err := c.JS.KeyValue(t.Context(), bus.BucketControl)
		require.NoError(now, err)
		entry, err := kv.Get(t.Context(), "pause")
		require.NoError(now, err)
		require.Equal(now, "on", string(entry.Value()))
		store, err := c.JS.ObjectStore(t.Context(), bus.ObjectPatches)
		require.NoError(now, err)
		artifact, err := store.GetBytes(t.Context(), "p1")
		require.NoError(now, err)
		require.Len(now, artifact, 300_000)
		_, err = c.JS.Publish(t.Context(), "work.k.f.q100", []byte("x"))
		require.True(now, bus.IsQueued(err), "rows that are queued are still known")
		cons, err := c.JS.Consumer(t.Context(), bus.StreamWork, bus.ConsumerWorkers)
		require.NoError(now, err)
		require.Equal(now, jetstream.AckExplicitPolicy, cons.CachedInfo().Config.AckPolicy)
	}, timeout, 100*time.Millisecond)
}

func TestOneBoosterGrowsToTwo(t *testing.T) {
	t.Parallel()
	cfgA, cfgB := pair(t)
	aged(t, cfgA)
	b, runB := startBooster(t, cfgB, "b") // the empty one first: it must not make streams of its own
	a, runA := startBooster(t, cfgA, "a")
	runA.wait(t)
	runB.wait(t)
	activeOf(t, "no automatic takeover: no witness", a, b)
	sameAsBefore(t, cfgA, 2)
	require.NoDirExists(t, filepath.Join(cfgA.DataDir, storeAside))
	require.NoDirExists(t, filepath.Join(cfgA.DataDir, growthDir))
}

func TestGrowthThatEndsInTheMiddleGoesOn(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"snapshot taken", "growth noted", "store set aside", "streams restored"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			cfgA, cfgB := pair(t)
			aged(t, cfgA)
			_, runB := startBooster(t, cfgB, "b")
			power := errors.New("power cut at " + point)
			ctx, cancel := context.WithCancel(context.Background())
			first := made(t, cfgA, zerolog.New(zerolog.NewTestWriter(t)))
			first.interrupt = func(at string) error {
				if at == point {
					cancel() // what is decided after this does not happen
					return power
				}
				return nil
			}
			err := first.Run(ctx)
			if err != nil {
				require.ErrorIs(t, err, power)
			}
			a, runA := startBooster(t, cfgA, "a")
			runA.wait(t)
			runB.wait(t)
			require.Empty(t, a.store.bootState().Growth)
			sameAsBefore(t, cfgA, 2)
		})
	}
}

func TestGrowthIsGivenUpWithoutLoss(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"snapshot taken", "growth noted", "store set aside"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			cfg, _ := pair(t)
			aged(t, cfg)
			power := errors.New("power cut")
			first := made(t, cfg, zerolog.Nop())
			first.interrupt = func(at string) error {
				if at == point {
					return power
				}
				return nil
			}
			require.ErrorIs(t, first.Run(t.Context()), power)
			cfg.HAIP, cfg.Sync = "", Sync{Interval: singleSync}
			started(t, cfg)
			sameAsBefore(t, cfg, 1)
		})
	}
}

func TestTwoQueuesAreNotMixed(t *testing.T) {
	t.Parallel()
	cfgA, cfgB := pair(t)
	aged(t, cfgA)
	aged(t, cfgB)
	a, runA := startBooster(t, cfgA, "a")
	b, runB := startBooster(t, cfgB, "b")
	conflict := func(br *Broker) bool {
		v := br.view()
		if v == nil || v.metaLeader == "" {
			return false
		}
		err := br.now.Load().member.control.founding.othersAgree(t.Context(), v)
		return err != nil && strings.Contains(err.Error(), "two queues are not mixed")
	}
	require.Eventually(t, func() bool { return conflict(a) && conflict(b) }, timeout, 200*time.Millisecond)
	require.NoError(t, runA.stop())
	require.NoError(t, runB.stop())
	for _, cfg := range []Config{cfgA, cfgB} { // each is as it was, once it is alone again
		cfg.HAIP, cfg.Sync = "", Sync{Interval: singleSync}
		_, stop := started(t, cfg)
		sameAsBefore(t, cfg, 1)
		require.NoError(t, stop())
	}
}

func TestBoostersThatWereNeverUsedFormACluster(t *testing.T) {
	t.Parallel()
	cfgA, cfgB := pair(t)
	for _, cfg := range []Config{cfgA, cfgB} {
		cfg.HAIP, cfg.Sync = "", Sync{Interval: singleSync}
		_, stop := started(t, cfg)
		require.NoError(t, stop())
	}
	_, runA := startBooster(t, cfgA, "a")
	_, runB := startBooster(t, cfgB, "b")
	runA.wait(t)
	runB.wait(t)
}
