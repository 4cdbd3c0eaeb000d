package broker

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

// It stays for as long as the other one is connected, unless it is told to stop.
func TestBoosterThatHasLeftStopsAtOnce(t *testing.T) {
	t.Parallel()
	cfg, _ := pair(t)
	s, err := openStore(t.Context(), cfg.DataDir, "", modeCluster)
	require.NoError(t, err)
	t.Cleanup(s.close)
	m := &shrinker{cfg: cfg, store: s, listener: newListener(cfg.place(), cfg.DataDir, zerolog.Nop()), log: zerolog.Nop()}
	stop, err := m.startMember(t.Context(), true)
	require.NoError(t, err)
	t.Cleanup(stop)
	require.Eventually(t, func() bool {
		routes, err := m.cluster.node.server.Routez(&server.RoutezOptions{})
		return err == nil && len(routes.Routes) > 0
	}, timeout, 10*time.Millisecond)

	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { left <- newDeparture(m.cluster, s, nil).leave(ctx, placeholderPeer) }()
	select {
	case err := <-left:
		t.Fatalf("left while the other one is there: %v", err)
	case <-time.After(time.Second):
	}
	cancel()
	select {
	case err := <-left:
		require.NoError(t, err)
	case <-time.After(timeout):
		t.Fatal("does not stop")
	}
}
