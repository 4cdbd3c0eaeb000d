package broker

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
)

// wanted waits until lease and sizes on the bus are those.
func wanted(t *testing.T, c *bus.Client, lease time.Duration, storeMB int64) {
	t.Helper()
	layout := bus.Layout{StoreBytes: storeMB * mib, Lease: lease}
	require.EventuallyWithT(t, func(now *assert.CollectT) {
		list, seen := c.JS.ListStreams(t.Context()), 0
		for info := range list.Info() {
			seen++
			_, changes := layout.Adjust(info.Config, 0)
			require.Empty(now, changes, info.Config.Name)
		}
		require.NoError(now, list.Err())
		require.Equal(now, bus.Streams, seen)
		consumer, err := c.JS.Consumer(t.Context(), bus.StreamWork, bus.ConsumerWorkers)
		require.NoError(now, err)
		require.Equal(now, lease, consumer.CachedInfo().Config.AckWait)
	}, timeout, 100*time.Millisecond)
}

// former is the stream that older programs made.
func former(t *testing.T, c *bus.Client, replicas int) {
	t.Helper()
	require.EventuallyWithT(t, func(now *assert.CollectT) { // a cluster under load may elect at this moment
		_, err := c.JS.CreateStream(t.Context(), jetstream.StreamConfig{
			Name: bus.FormerStream, Subjects: []string{"schedule.>"},
			Replicas: replicas,
		})
		require.NoError(now, err)
	}, timeout, 100*time.Millisecond)
}

func TestChangedSettingsReachAnExistingCluster(t *testing.T) {
	t.Parallel()
	cfgA, cfgB := pair(t)
	cfgA.Lease, cfgB.Lease = 3*time.Second, 3*time.Second
	_, runA := startBooster(t, cfgA, "a")
	_, runB := startBooster(t, cfgB, "b")
	runA.wait(t)
	runB.wait(t)
	c := dial(t, cfgA)
	wanted(t, c, 3*time.Second, 256)
	former(t, c, 2)
	wanted(t, c, 3*time.Second, 256) // without it again
	c.Close()
	require.NoError(t, runA.stop())
	require.NoError(t, runB.stop())

	cfgA.Lease, cfgB.Lease = 4*time.Second, 4*time.Second
	cfgA.StoreMB, cfgB.StoreMB = 400, 300 // the one with less room decides
	a, runA := startBooster(t, cfgA, "a")
	b, runB := startBooster(t, cfgB, "b")
	runA.wait(t)
	runB.wait(t)
	c = dial(t, cfgA)
	wanted(t, c, 4*time.Second, 300)

	// By hand: a stream is changed, and the workers' consumer removed. Neither keeps the controller from its work.
	work, err := c.JS.Stream(t.Context(), bus.StreamWork)
	require.NoError(t, err)
	byHand := work.CachedInfo().Config
	byHand.MaxMsgSize, byHand.DiscardNewPerSubject = 1000, false
	_, err = c.JS.UpdateStream(t.Context(), byHand)
	require.NoError(t, err)
	removed, err := c.JS.Consumer(t.Context(), bus.StreamWork, bus.ConsumerWorkers)
	require.NoError(t, err)
	require.NoError(t, c.JS.DeleteConsumer(t.Context(), bus.StreamWork, bus.ConsumerWorkers))
	require.Eventually(t, func() bool {
		again, err := c.JS.Consumer(t.Context(), bus.StreamWork, bus.ConsumerWorkers)
		return err == nil && again.CachedInfo().Created.After(removed.CachedInfo().Created)
	}, timeout, 50*time.Millisecond, "nobody makes it again")
	wanted(t, c, 4*time.Second, 300)
	activeOf(t, "no automatic takeover: no witness", a, b)
	_, err = c.JS.Publish(t.Context(), "work.k.f.q1", make([]byte, 5000))
	require.NoError(t, err)
	require.Eventually(t, func() bool { // its leader may be moving
		consumer, err := c.JS.Consumer(t.Context(), bus.StreamWork, bus.ConsumerWorkers)
		if err != nil {
			return false
		}
		batch, err := consumer.Fetch(1, jetstream.FetchMaxWait(time.Second))
		if err != nil {
			return false
		}
		msg := <-batch.Messages()
		return msg != nil && msg.DoubleAck(t.Context()) == nil
	}, timeout, 50*time.Millisecond, "no step comes from it")
	require.Eventually(t, func() bool { // the active Booster, whichever it is, names the member with less room
		for _, br := range []*Broker{a, b} {
			for _, n := range br.now.Load().report.describe().Booster.Notes {
				if br == a && n == "the streams may fill 300 MB and not 400: "+b.name()+" has no room for more (BOOSTER_STORE_MB, or its disk)" {
					return true
				}
			}
		}
		return b.active()
	}, timeout, 50*time.Millisecond)
}

// Until a worker has looked, it renews a step at a quarter of the former lease: a lease that is shorter than that would give
// the step to a second worker.
func TestLeaseIsMadeShorterByHalfAndSlowly(t *testing.T) {
	t.Parallel()
	layout := bustest.Layout()
	layout.Lease = 30 * time.Second
	bed := bustest.New(t, layout)
	js := bed.Client().JS
	b := newKeeper(newCluster("b", modeStandalone, &node{js: js}, zerolog.Nop()), budget{}, nil)
	v := &view{streams: map[string]streamView{bus.StreamWork: {}}}
	keep := func(want time.Duration) time.Duration {
		require.NoError(t, b.keepWorkers(t.Context(), bus.Layout{Lease: want}, v))
		consumer, err := js.Consumer(t.Context(), bus.StreamWork, bus.ConsumerWorkers)
		require.NoError(t, err)
		return consumer.CachedInfo().Config.AckWait
	}
	rested := func() { b.workers.since = time.Now().Add(-leaseRest) }
	require.Equal(t, 30*time.Second, keep(7*time.Second), "who was active before may just have changed it")
	rested()
	require.Equal(t, 15*time.Second, keep(7*time.Second))
	require.Equal(t, 15*time.Second, keep(7*time.Second), "not every worker knows it yet")
	rested()
	require.Equal(t, 7500*time.Millisecond, keep(7*time.Second))
	keep(7 * time.Second)
	rested()
	require.Equal(t, 7*time.Second, keep(7*time.Second))
	require.Equal(t, time.Minute, keep(time.Minute), "a longer one is good at once")

	layout.Lease = 7 * time.Second // as a single Booster does when it starts
	require.NoError(t, bus.Ensure(t.Context(), js, layout))
	require.Equal(t, 30*time.Second, keep(7*time.Second))
}

// A new consumer would give each running step to a second worker at once.
func TestRemovedConsumerIsMadeAgainWhenNoLeaseIsLeft(t *testing.T) {
	t.Parallel()
	layout := bustest.Layout()
	layout.Lease = time.Minute
	c := bustest.New(t, layout).Client()
	_, err := c.JS.Publish(t.Context(), "work.k.f.q1", []byte("running"))
	require.NoError(t, err)
	workers, err := c.JS.Consumer(t.Context(), bus.StreamWork, bus.ConsumerWorkers)
	require.NoError(t, err)
	running, err := workers.Next()
	require.NoError(t, err)
	b := newKeeper(newCluster("b", modeStandalone, &node{js: c.JS}, zerolog.Nop()), budget{}, nil)
	keep := func() error {
		require.NoError(t, b.keepWorkers(t.Context(), bus.Layout{Lease: time.Minute}, &view{streams: map[string]streamView{bus.StreamWork: {}}}))
		_, err := c.JS.Consumer(t.Context(), bus.StreamWork, bus.ConsumerWorkers)
		return err
	}
	require.NoError(t, keep())

	require.NoError(t, c.JS.DeleteConsumer(t.Context(), bus.StreamWork, bus.ConsumerWorkers))
	require.ErrorIs(t, keep(), jetstream.ErrConsumerNotFound)
	_, err = c.NC.Request(running.Reply(), []byte("+WPI"), timeout)
	require.ErrorIs(t, err, nats.ErrNoResponders, "no lease is renewed meanwhile")
	b.workers.gone = time.Now().Add(-59 * time.Second)
	require.ErrorIs(t, keep(), jetstream.ErrConsumerNotFound)
	b.workers.gone = time.Now().Add(-time.Minute)
	require.NoError(t, keep())
	require.NoError(t, keep())
	require.Zero(t, b.workers.gone)
}

func TestSingleBoosterKeepsItsConsumerAndLosesTheFormerStream(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	cfg.Lease = 2 * time.Second
	b, stop := started(t, cfg)
	c := dial(t, cfg)
	require.NoError(t, c.JS.DeleteConsumer(t.Context(), bus.StreamWork, bus.ConsumerWorkers))
	wanted(t, c, cfg.Lease, 256)

	former(t, c, 1)
	wanted(t, c, cfg.Lease, 256)
	require.NoError(t, stop())

	left, err := b.now.Load().keeper.retire(t.Context(), &view{streams: map[string]streamView{
		bus.FormerStream: {config: jetstream.StreamConfig{Subjects: []string{"schedule.>"}}, messages: 3},
	}})
	require.NoError(t, err)
	require.Contains(t, left, "SCHEDULE holds 3 messages", "they are somebody's")
}

func TestRoomOfAMember(t *testing.T) {
	t.Parallel()
	const gib = int64(1) << 30
	for _, c := range []struct {
		what string
		room room
		want int64
	}{
		{"as it was told", room{limit: 20 * gib, used: gib, free: 100 * gib}, 20 * gib},
		{"an older program does not tell its disk", room{limit: 20 * gib}, 20 * gib},
		{"an older agent tells nothing", room{}, 0},
		{"others fill the disk", room{limit: 20 * gib, used: 8 * gib, free: 2 * gib}, 9 * gib},
		{"the disk is full", room{limit: 20 * gib, used: 8 * gib, free: 1}, 8 * gib},
		{"a full disk, and nothing of ours on it", room{limit: 20 * gib, free: 1}, minStoreMB * mib},
		{"a witness leaves a fifth to its host", room{free: 10 * gib}, 8 * gib},
	} {
		require.Equal(t, c.want, c.room.bytes(), c.what)
	}
}

func TestStoreShrinksAtOnceAndGrowsSlowly(t *testing.T) {
	t.Parallel()
	const gib = int64(1) << 30
	b := newSurroundings(newCluster("a", modeCluster, nil, zerolog.Nop()), nil, 8*gib, nil)
	v := &view{streams: map[string]streamView{}}
	decide := func() int64 {
		total, _ := b.storeBytes(v)
		wanted, _ := bus.Layout{StoreBytes: total}.Adjust(jetstream.StreamConfig{Name: bus.StreamWork}, 0)
		v.streams[bus.StreamWork] = streamView{config: wanted}
		return total
	}
	v.streams[bus.StreamWork] = streamView{config: jetstream.StreamConfig{MaxBytes: 4 * gib * 40 / 100}}
	own := room{who: "a", limit: 8 * gib, free: 100 * gib}
	require.Equal(t, 4*gib, decide(), "nobody was heard yet")
	b.known = known{rooms: []room{own}}
	require.Equal(t, 4*gib, decide(), "the other one was not heard: its disk may be smaller")
	b.rooms, b.all = []room{own, {who: "b", limit: 6 * gib, free: 100 * gib}}, true
	require.Equal(t, 6*gib, decide(), "the settings have changed")
	b.rooms = append(b.rooms, room{who: "witness", used: gib, free: 2 * gib})
	require.Less(t, decide(), 3*gib, "the witness has a small disk")
	_, notes := b.storeBytes(v)
	require.Len(t, notes, 1)
	require.Contains(t, notes[0], "witness has no room for more")
	b.rooms = b.rooms[:2]
	small := decide()
	require.Less(t, small, 3*gib, "room that comes and goes is not room")
	b.roomier = time.Now().Add(-growTimeout)
	require.Equal(t, 6*gib, decide())
	b.all, b.rooms = false, b.rooms[:1]
	require.Equal(t, 6*gib, decide(), "who is away comes back with the disk that he has")
}
