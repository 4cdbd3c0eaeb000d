package bus_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
)

// What a server says of streams that were just made is what the layout wants: else they would be updated for ever.
func TestWhatWasMadeNeedsNoAdjustment(t *testing.T) {
	t.Parallel()
	layout := bustest.Layout()
	c := bustest.New(t, layout).Client()
	seen := 0
	list := c.JS.ListStreams(t.Context())
	for info := range list.Info() {
		_, changes := layout.Adjust(info.Config, 0)
		require.Empty(t, changes, info.Config.Name)
		seen++
	}
	require.NoError(t, list.Err())
	require.Equal(t, bus.Streams, seen)
	consumer, err := c.JS.Consumer(t.Context(), bus.StreamWork, bus.ConsumerWorkers)
	require.NoError(t, err)
	_, changes := layout.AdjustWorkers(consumer.CachedInfo().Config)
	require.Empty(t, changes)
}

func TestEveryWantedChangeIsTakenByTheServer(t *testing.T) {
	t.Parallel()
	c := bustest.New(t, bustest.Layout()).Client()
	other := bus.Layout{StoreBytes: 1 << 29, Replicas: 1, Lease: 7 * time.Second}
	list := c.JS.ListStreams(t.Context())
	for info := range list.Info() {
		cfg := info.Config
		cfg.Description, cfg.MaxMsgSize = "by hand", 4711 // as an operator may have done
		wanted, changes := other.Adjust(cfg, 0)
		require.Contains(t, changes, "max_bytes", cfg.Name)
		_, err := c.JS.UpdateStream(t.Context(), wanted)
		require.NoError(t, err)
		stream, err := c.JS.Stream(t.Context(), cfg.Name)
		require.NoError(t, err)
		_, changes = other.Adjust(stream.CachedInfo().Config, 0)
		require.Empty(t, changes, cfg.Name)
	}
	require.NoError(t, list.Err())
	foreign := jetstream.StreamConfig{Name: "ORDERS", MaxBytes: 5}
	same, changes := other.Adjust(foreign, 0)
	require.Empty(t, changes)
	require.Equal(t, foreign, same)
}

// A single Booster starts with this, and its disk may have less room than before.
func TestBucketThatIsEnsuredAgainKeepsRoomForWhatItHolds(t *testing.T) {
	t.Parallel()
	layout := bustest.Layout()
	layout.StoreBytes = 256 << 20
	js := bustest.New(t, layout).Client().JS
	control, err := js.KeyValue(t.Context(), bus.BucketControl)
	require.NoError(t, err)
	for i := range 4 {
		_, err := control.Put(t.Context(), fmt.Sprintf("key%d", i), make([]byte, 1<<20))
		require.NoError(t, err)
	}
	layout.StoreBytes = 64 << 20
	require.NoError(t, bus.Ensure(t.Context(), js, layout))
	_, err = control.Put(t.Context(), "lock", []byte("holder"))
	require.NoError(t, err)
}

func TestBucketKeepsRoomForWhatItHolds(t *testing.T) {
	t.Parallel()
	cfg := jetstream.StreamConfig{Name: "KV_CONTROL", MaxBytes: 20 << 20}
	wanted, _ := bus.Layout{StoreBytes: 256 << 20}.Adjust(cfg, 4<<20)
	require.EqualValues(t, 8<<20, wanted.MaxBytes)
	wanted, _ = bus.Layout{StoreBytes: 256 << 20}.Adjust(cfg, 0)
	require.Less(t, wanted.MaxBytes, int64(6<<20))
	wanted, _ = bus.Layout{StoreBytes: 256 << 20}.Adjust(cfg, 15<<20)
	require.EqualValues(t, 20<<20, wanted.MaxBytes)
	for _, store := range []int64{256 << 20, 1 << 30, 20_000 << 20, 123_456_789} {
		wanted, _ = bus.Layout{StoreBytes: store}.Adjust(jetstream.StreamConfig{Name: bus.StreamWork}, 0)
		require.InDelta(t, store, bus.StoreOf(wanted.MaxBytes), 2)
	}
}
