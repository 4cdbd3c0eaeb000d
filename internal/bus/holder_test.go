package bus_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
)

// beating is a process that says it is agent om1.
type beating struct {
	client *bus.Client
	stop   context.CancelFunc
	ended  chan error
}

func beat(t *testing.T, b *bustest.Bus, host string) beating {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	p := beating{b.Client(), stop, make(chan error, 1)}
	t.Cleanup(func() {
		stop()
		for range p.ended { // until it is closed
		}
	})
	go func() {
		p.ended <- bus.Heartbeat(ctx, p.client.JS, zerolog.Nop(), nil,
			func() bus.Node { return bus.Node{Role: "agent", Name: "om1", Host: host, PID: 812} })
		close(p.ended)
	}()
	return p
}

// holder waits until a host holds the name.
func holder(t *testing.T, c *bus.Client, host string) {
	t.Helper()
	require.Eventually(t, func() bool {
		nodes, err := bus.Nodes(t.Context(), c.JS)
		return err == nil && len(nodes) == 1 && nodes[0].Host == host
	}, timeout, 20*time.Millisecond, "the name is not held by %s", host)
}

func refused(t *testing.T, p beating, host string) {
	t.Helper()
	select {
	case err := <-p.ended:
		var clone *bus.CloneError
		require.ErrorAs(t, err, &clone)
		require.Equal(t, host, clone.Other.Host)
	case <-time.After(timeout):
		t.Fatal("two processes have one name")
	}
}

func TestSecondLivingHolderOfANameIsRefused(t *testing.T) {
	t.Parallel()
	b := bustest.New(t, bustest.Layout())
	first := beat(t, b, "host-a")
	holder(t, first.client, "host-a")
	second := beat(t, b, "host-b")
	refused(t, second, "host-a")
	err := bus.RefuseClone(t.Context(), second.client.JS, "agent", "om1")
	require.ErrorContains(t, err, `another agent named "om1" is alive at 127.0.0.1 (host host-a, process 812`)
	require.NoError(t, bus.RefuseClone(t.Context(), second.client.JS, "worker", "om1"), "an agent and its worker have one name")
	holder(t, first.client, "host-a")
	select {
	case err := <-first.ended:
		t.Fatalf("the first was stopped, too: %v", err)
	default:
	}

	// Its entry may go, with the Booster's store for one: the name stays with it.
	kv, err := first.client.JS.KeyValue(t.Context(), bus.BucketNodes)
	require.NoError(t, err)
	require.NoError(t, kv.Purge(t.Context(), "agent.om1"))
	refused(t, beat(t, b, "host-c"), "host-a")
	holder(t, first.client, "host-a")
}

func TestOfTwoThatStartTogetherOneStays(t *testing.T) {
	t.Parallel()
	b := bustest.New(t, bustest.Layout())
	one, other := beat(t, b, "host-a"), beat(t, b, "host-b")
	stays := "host-a"
	select {
	case err := <-one.ended:
		require.Error(t, err)
		stays = "host-b"
	case err := <-other.ended:
		require.Error(t, err)
	case <-time.After(timeout):
		t.Fatal("two processes have one name")
	}
	holder(t, b.Client(), stays)
}

func TestProcessThatStartsAgainHasItsNameAtOnce(t *testing.T) {
	t.Parallel()
	b := bustest.New(t, bustest.Layout())
	first := beat(t, b, "host-a")
	looks := b.Client()
	holder(t, looks, "host-a")
	first.client.NC.Close() // as when it is killed: its entry stays
	holder(t, looks, "host-a")
	require.NoError(t, bus.RefuseClone(t.Context(), looks.JS, "agent", "om1"))
	again := beat(t, b, "host-a again")
	holder(t, looks, "host-a again")
	again.stop()
	require.NoError(t, <-again.ended)
}

// A program that knows nothing of this writes its entry over everybody's and answers nothing.
func TestOlderProgramsHoldTheirNames(t *testing.T) {
	t.Parallel()
	b := bustest.New(t, bustest.Layout())
	old := b.Client()
	write := func() {
		data, err := json.Marshal(bus.Node{Role: "agent", Name: "om1", Host: "host-old", At: time.Now()})
		require.NoError(t, err)
		_, err = old.JS.Publish(t.Context(), "$KV."+bus.BucketNodes+".agent.om1", data)
		require.NoError(t, err)
	}
	write()
	second := beat(t, b, "host-b")
	for over := false; !over; {
		select {
		case err := <-second.ended:
			var clone *bus.CloneError
			require.ErrorAs(t, err, &clone)
			require.Equal(t, "host-old", clone.Other.Host)
			over = true
		case <-time.After(time.Second):
			write()
		}
	}
	third := beat(t, b, "host-c") // nobody writes any more
	holder(t, old, "host-c")
	write() // who was here first stays
	holder(t, old, "host-c")
	select {
	case err := <-third.ended:
		t.Fatalf("refused for one that came later: %v", err)
	default:
	}
}
