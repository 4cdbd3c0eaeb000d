package snapshot

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/freeport"
)

// cluster starts three servers and connects to the first of them from inside, as a Booster does.
func cluster(t *testing.T) (servers []*server.Server, js jetstream.JetStream) {
	t.Helper()
	var routes []*url.URL
	ports := make([]int, 3)
	for i := range ports {
		var err error
		ports[i], err = freeport.Take(t.Context())
		require.NoError(t, err)
		routes = append(routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("127.0.0.1:%d", ports[i])})
	}
	for i := range ports {
		s, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprint("s", i), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, MaxPayload: bus.MaxPayload,
			JetStream: true, StoreDir: t.TempDir(), Routes: routes, Tags: []string{fmt.Sprint("s", i)},
			Cluster: server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: ports[i]},
		})
		require.NoError(t, err)
		s.Start()
		t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
		servers = append(servers, s)
	}
	require.True(t, servers[0].ReadyForConnections(timeout))
	nc, err := nats.Connect("", nats.InProcessServer(servers[0]))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err = jetstream.New(nc)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := js.AccountInfo(ctx)
		peers := 0
		for _, s := range servers {
			peers += len(s.JetStreamClusterPeers())
		}
		return err == nil && peers >= 3
	}, timeout, 50*time.Millisecond)
	return servers, js
}

// A server lists the streams that have a leader, and names the others apart.
func TestTakeNeedsALeaderOfEveryStream(t *testing.T) {
	t.Parallel()
	servers, js := cluster(t)
	for _, on := range []string{"s0", "s2"} {
		_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
			Name: "ON_" + on, Subjects: []string{on},
			Placement: &jetstream.Placement{Tags: []string{on}},
		})
		require.NoError(t, err)
	}
	_, m := taken(t, js)
	require.Len(t, m.Streams, 2)

	gone := servers[2]
	gone.Shutdown()
	gone.WaitForShutdown()
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := js.AccountInfo(ctx)
		return err == nil
	}, timeout, 50*time.Millisecond, "two of three are a majority")
	dir := t.TempDir()
	_, err := Take(t.Context(), js, dir, TakeOptions{})
	require.EqualError(t, err, "nobody leads ON_s2 at the moment; try again in some seconds")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

// An election in the middle of the list is waited for, and so is nothing for the sake of heartbeats.
func TestTakeWaitsForAnElection(t *testing.T) {
	t.Parallel()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	require.True(t, s.ReadyForConnections(timeout))
	nc, err := nats.Connect("", nats.InProcessServer(s))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	asked := 0
	_, err = nc.Subscribe("$JS.API.STREAM.LIST", func(m *nats.Msg) {
		asked++
		answer := `{"total":3,"limit":256,"streams":[{"config":{"name":"DEAD","storage":"file"}}],"missing":["WORK","KV_NODES"]}`
		if asked > 1 {
			answer = `{"total":3,"limit":256,"streams":[{"config":{"name":"DEAD","storage":"file"}},{"config":{"name":"WORK","storage":"file"}}],
				"missing":["KV_NODES"]}`
		}
		_ = m.Respond([]byte(answer))
	})
	require.NoError(t, err)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	names, err := taker{link: newLink(js, 0)}.streams(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"WORK", "DEAD"}, names)
}

// From one Booster to a cluster of three, interrupted on the way, and back to one: what a cluster does not keep of a consumer is which
// messages above the ack floor were acknowledged or delivered; those that are still there come again.
func TestGrowAndShrink(t *testing.T) {
	t.Parallel()
	alone := fresh(t).Client()
	fill(t, alone.JS)
	want := see(t, alone.JS)
	dir, m := taken(t, alone.JS)

	_, grown := cluster(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := Restore(ctx, grown, opened(t, dir), RestoreOptions{Replicas: 3, Progress: func(p Progress) {
		if p.Stream == bus.StreamWork && p.Done > 0 {
			cancel()
		}
	}})
	require.ErrorIs(t, err, context.Canceled)
	_, err = Restore(t.Context(), grown, opened(t, dir), RestoreOptions{Replicas: 3})
	require.NoError(t, err)
	settled := time.Now()
	check := func() {
		for name, w := range want {
			stream, err := grown.Stream(t.Context(), name)
			require.NoError(t, err)
			info := stream.CachedInfo()
			require.Equal(t, 3, info.Config.Replicas)
			require.Equal(t, w.State.Messages, info.State.Msgs, name)
			require.Equal(t, w.State.LastSeq, info.State.LastSeq, name)
		}
	}
	check()
	require.Eventually(t, func() bool { return time.Since(settled) > 7*time.Second }, timeout, 100*time.Millisecond,
		"a server gives an interrupted restore up after five seconds")
	check()
	seen := see(t, grown)
	equalMessages(t, want, seen)

	back, n := taken(t, grown)
	require.Len(t, n.Streams, len(m.Streams))
	single := fresh(t).Client()
	_, err = Restore(t.Context(), single.JS, opened(t, back), RestoreOptions{})
	require.NoError(t, err)
	again := see(t, single.JS)
	equalMessages(t, want, again)
	require.EqualValues(t, 21, again[bus.StreamWork].AckFloor[bus.ConsumerWorkers].Stream)
	workers, err := single.JS.Consumer(t.Context(), bus.StreamWork, bus.ConsumerWorkers)
	require.NoError(t, err)
	for range want[bus.StreamWork].Messages {
		msg, err := workers.Next(jetstream.FetchMaxWait(timeout))
		require.NoError(t, err)
		require.NoError(t, msg.DoubleAck(t.Context()))
	}
}

func equalMessages(t *testing.T, want, got map[string]picture) {
	t.Helper()
	require.Len(t, got, len(want))
	for name, w := range want {
		require.Equal(t, len(w.Messages), len(got[name].Messages), name)
		for i := range w.Messages {
			require.Equal(t, w.Messages[i], got[name].Messages[i], name)
		}
	}
}
