package snapshot

import (
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

func TestBackAsItWas(t *testing.T) {
	t.Parallel()
	before := fresh(t).Client()
	fill(t, before.JS)
	want := see(t, before.JS)
	dir, m := taken(t, before.JS)
	for _, s := range m.Streams {
		w := want[s.Name].State
		require.Equal(t, []uint64{w.Messages, w.Bytes, w.FirstSeq, w.LastSeq}, []uint64{s.Messages, s.Bytes, s.FirstSeq, s.LastSeq}, s.Name)
	}
	require.Equal(t, "OBJ_PATCHES", m.Streams[0].Name)
	require.Equal(t, "KV_CONTROL", m.Streams[len(m.Streams)-1].Name)

	after := fresh(t).Client()
	src, err := OpenFile(packedFile(t, dir))
	require.NoError(t, err)
	defer func() { _ = src.Close() }()
	require.Equal(t, m.ID, src.Manifest().ID)
	done, err := Restore(t.Context(), after.JS, src, RestoreOptions{})
	require.NoError(t, err)
	require.Len(t, done, len(m.Streams))
	for _, d := range done {
		require.False(t, d.InUse, d.Stream.Name)
		info, _, err := newLink(after.JS, 0).info(t.Context(), d.Stream.Name)
		require.NoError(t, err)
		require.Empty(t, markOf(info.Config))
	}
	equal(t, want, see(t, after.JS))

	patches, err := after.JS.ObjectStore(t.Context(), bus.ObjectPatches)
	require.NoError(t, err)
	artifact, err := patches.GetBytes(t.Context(), "p1")
	require.NoError(t, err, "its digest is checked")
	require.Len(t, artifact, 700_000)
	control, err := after.JS.KeyValue(t.Context(), bus.BucketControl)
	require.NoError(t, err)
	entry, err := control.Get(t.Context(), "pause")
	require.NoError(t, err)
	require.EqualValues(t, 7, entry.Revision())
	require.Equal(t, "6", string(entry.Value()))

	again, err := Restore(t.Context(), after.JS, src, RestoreOptions{})
	require.NoError(t, err)
	for _, d := range again {
		require.True(t, d.Skipped, d.Stream.Name)
	}
}

// Every step that was not acknowledged comes again, with its number of deliveries, and the bus goes on where it was.
func TestWorkGoesOn(t *testing.T) {
	t.Parallel()
	before := fresh(t).Client()
	fill(t, before.JS)
	dir, _ := taken(t, before.JS)
	b := fresh(t)
	after := b.Client()
	_, err := Restore(t.Context(), after.JS, opened(t, dir), RestoreOptions{})
	require.NoError(t, err)
	work, err := after.JS.Stream(t.Context(), bus.StreamWork)
	require.NoError(t, err)
	left := work.CachedInfo().State.Msgs
	workers, err := after.JS.Consumer(t.Context(), bus.StreamWork, bus.ConsumerWorkers)
	require.NoError(t, err)
	tries := map[uint64]int{}
	for range left {
		m, err := workers.Next(jetstream.FetchMaxWait(timeout))
		require.NoError(t, err)
		meta, err := m.Metadata()
		require.NoError(t, err)
		tries[meta.NumDelivered]++
		require.NoError(t, m.DoubleAck(t.Context()))
	}
	require.Equal(t, int(left), tries[1]+tries[2]+tries[3])
	require.Equal(t, 4, tries[3], tries)
	require.Equal(t, 16, tries[2], tries)
	info, err := work.Info(t.Context())
	require.NoError(t, err)
	require.Zero(t, info.State.Msgs)
	ack, err := after.JS.PublishMsg(t.Context(), &nats.Msg{Subject: bus.WorkSubject("k", "f", "q9999")})
	require.NoError(t, err)
	require.EqualValues(t, 301, ack.Sequence)
	require.NoError(t, bus.Ensure(t.Context(), after.JS, bus.Layout{StoreBytes: 1 << 29, Replicas: 1}))
	b.Stop()
	b.Start()
}

func TestFieldsThatThisProgramDoesNotKnowSurvive(t *testing.T) {
	t.Parallel()
	got, err := withSizes(json.RawMessage(`{"name":"X","later":{"a":[1]},"metadata":{"k":"v"},"max_bytes":5}`),
		sizes{MaxBytes: 7, Replicas: 3}, "id")
	require.NoError(t, err)
	require.JSONEq(t, `{"name":"X","later":{"a":[1]},"metadata":{"k":"v","omflow-booster.restoring":"id"},"max_bytes":7,"num_replicas":3}`,
		string(got))
	got, err = withSizes(got, sizes{MaxBytes: 7, Replicas: 3}, "")
	require.NoError(t, err)
	require.Empty(t, markOf(got))
}
