package snapshot

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
	"github.com/omflow-booster/omflow-booster/internal/leaktest"
)

const timeout = 30 * time.Second

func TestMain(m *testing.M) { leaktest.Main(m) }

// publish stores n steps of size bytes each on WORK, with headers, and returns the last sequence.
func publish(t testing.TB, js jetstream.JetStream, prefix string, n, size int) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range n {
		m := nats.NewMsg(bus.WorkSubject("FormFlow", "f1", fmt.Sprint(prefix, i)))
		m.Header.Set(bus.HeaderID, fmt.Sprint(prefix, i))
		m.Header.Set(bus.HeaderKey, "f1/7")
		m.Data = make([]byte, size)
		for j := range m.Data {
			m.Data[j] = "0123456789abcdef"[random.IntN(16)]
		}
		_, err := js.PublishMsgAsync(m)
		require.NoError(t, err)
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(timeout):
		t.Fatal("publishing takes too long")
	}
}

// fill puts something of everything on a bus: steps waiting, running, tried twice and done, dead steps, an artifact, keys with a
// history of revisions, and gaps at the beginning, in the middle and at the end of streams.
func fill(t testing.TB, js jetstream.JetStream) {
	t.Helper()
	ctx := t.Context()
	publish(t, js, "q", 300, 600)
	work, err := js.Stream(ctx, bus.StreamWork)
	require.NoError(t, err)
	workers, err := js.Consumer(ctx, bus.StreamWork, bus.ConsumerWorkers)
	require.NoError(t, err)
	batch, err := workers.Fetch(60, jetstream.FetchMaxWait(timeout))
	require.NoError(t, err)
	i := 0
	for m := range batch.Messages() {
		switch {
		case i < 20 || i%2 == 0: // done: the ack floor is 21, with gaps above it
			require.NoError(t, m.DoubleAck(ctx))
		case i > 50: // tried once; the next delivery is the second
			require.NoError(t, m.Nak())
		}
		i++
	}
	require.NoError(t, batch.Error())
	require.Equal(t, 60, i)
	again, err := workers.Fetch(4, jetstream.FetchMaxWait(timeout)) // redelivered, and not acknowledged
	require.NoError(t, err)
	for range again.Messages() {
	}
	require.NoError(t, work.DeleteMsg(ctx, 200))
	require.NoError(t, work.DeleteMsg(ctx, 300))

	for i := range 5 {
		_, err := js.PublishMsg(ctx, &nats.Msg{
			Subject: bus.DeadSubject("FormFlow", "f1", fmt.Sprint("d", i)),
			Header:  nats.Header{bus.HeaderDeadReason: {"boom"}},
		})
		require.NoError(t, err)
	}
	_, err = js.Publish(ctx, bus.AnnounceSubject("p1"), []byte("{}"))
	require.NoError(t, err)

	patches, err := js.ObjectStore(ctx, bus.ObjectPatches)
	require.NoError(t, err)
	artifact := make([]byte, 700_000)
	_, err = rand.NewChaCha8([32]byte{1}).Read(artifact)
	require.NoError(t, err)
	_, err = patches.PutBytes(ctx, "p0", artifact[:1000])
	require.NoError(t, err)
	require.NoError(t, patches.Delete(ctx, "p0"))
	_, err = patches.PutBytes(ctx, "p1", artifact)
	require.NoError(t, err)

	control, err := js.KeyValue(ctx, bus.BucketControl)
	require.NoError(t, err)
	for i := range 7 {
		_, err = control.Put(ctx, "pause", []byte(fmt.Sprint(i)))
		require.NoError(t, err)
	}
	rollout, err := js.KeyValue(ctx, bus.BucketRollout)
	require.NoError(t, err)
	_, err = rollout.Put(ctx, "p1.n1", []byte("applied"))
	require.NoError(t, err)
	require.NoError(t, rollout.Delete(ctx, "p1.n1"))
	nodes, err := js.KeyValue(ctx, bus.BucketNodes)
	require.NoError(t, err)
	_, err = nodes.Put(ctx, "worker.w1", []byte("{}"))
	require.NoError(t, err)
}

// picture is everything that people and programs can see of a stream.
type picture struct {
	State     state
	Messages  []jetstream.RawStreamMsg
	Delivered map[string]jetstream.SequenceInfo
	AckFloor  map[string]jetstream.SequenceInfo
	Pending   map[string][3]int // waiting for an ack, redelivered, not delivered
}

// see describes every stream of the bus that is in files.
func see(t testing.TB, js jetstream.JetStream) map[string]picture {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	all := map[string]picture{}
	list := js.ListStreams(ctx)
	for info := range list.Info() {
		if !kept(info.Config) {
			continue
		}
		p := picture{Delivered: map[string]jetstream.SequenceInfo{}, AckFloor: map[string]jetstream.SequenceInfo{}, Pending: map[string][3]int{}}
		data, err := json.Marshal(info.State)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(data, &p.State))
		stream, err := js.Stream(ctx, info.Config.Name)
		require.NoError(t, err)
		for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
			m, err := stream.GetMsg(ctx, seq)
			if err == nil {
				p.Messages = append(p.Messages, *m)
			}
		}
		require.Equal(t, int(info.State.Msgs), len(p.Messages)) // Len would print them all
		consumers := stream.ListConsumers(ctx)
		for c := range consumers.Info() {
			c.Delivered.Last, c.AckFloor.Last = nil, nil // times of deliveries are not kept
			p.Delivered[c.Name], p.AckFloor[c.Name] = c.Delivered, c.AckFloor
			p.Pending[c.Name] = [3]int{c.NumAckPending, c.NumRedelivered, int(c.NumPending)}
		}
		require.NoError(t, consumers.Err())
		all[info.Config.Name] = p
	}
	require.NoError(t, list.Err())
	return all
}

// equal compares two buses as far as a snapshot goes.
func equal(t testing.TB, want, got map[string]picture) {
	t.Helper()
	require.Len(t, got, len(want))
	for name, w := range want {
		g := got[name]
		if w.State.Messages == 0 { // of what is not there only the place counts
			w.State.FirstTime, w.State.LastTime, g.State.FirstTime, g.State.LastTime = time.Time{}, time.Time{}, time.Time{}, time.Time{}
		}
		if len(w.Messages) == 0 || w.Messages[len(w.Messages)-1].Sequence != w.State.LastSeq {
			w.State.LastTime, g.State.LastTime = time.Time{}, time.Time{}
		}
		require.Equal(t, len(w.Messages), len(g.Messages), name)
		for i := range w.Messages {
			require.Equal(t, w.Messages[i], g.Messages[i], name)
		}
		w.Messages, g.Messages = nil, nil
		require.Equal(t, w, g, name)
	}
}

// taken is a snapshot of js in a new directory.
func taken(t testing.TB, js jetstream.JetStream) (dir string, m Manifest) {
	t.Helper()
	dir = t.TempDir()
	m, err := Take(t.Context(), js, dir, TakeOptions{})
	require.NoError(t, err)
	return dir, m
}

func opened(t testing.TB, dir string) Source {
	t.Helper()
	src, err := OpenDir(dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = src.Close() })
	return src
}

// packedFile is the snapshot of a directory in one file.
func packedFile(t testing.TB, dir string) string {
	t.Helper()
	name := t.TempDir() + "/b.tar.zst"
	_, err := Pack(t.Context(), dir, name, false)
	require.NoError(t, err)
	return name
}

// fresh is a bus as a new Booster makes it.
func fresh(t testing.TB) *bustest.Bus { return bustest.New(t, bustest.Layout()) }
