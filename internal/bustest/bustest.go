// Package bustest gives each test a real bus of its own: an embedded JetStream server with every stream and bucket.
package bustest

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/freeport"
)

const timeout = 20 * time.Second

// Bus is a server that a test may stop, wipe and start again, on the same port.
type Bus struct {
	t      testing.TB
	dir    string
	port   int
	layout bus.Layout
	server *server.Server
}

// Layout is small, with a lease that a test can wait for.
func Layout() bus.Layout {
	return bus.Layout{StoreBytes: 1 << 30, Replicas: 1, Lease: 2 * time.Second}
}

// New starts a bus that ends with the test.
func New(t testing.TB, layout bus.Layout) *Bus {
	t.Helper()
	port, err := freeport.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b := &Bus{t: t, dir: t.TempDir(), port: port, layout: layout}
	b.Start()
	t.Cleanup(b.Stop)
	return b
}

// Start starts the server and makes sure of its streams.
func (b *Bus) Start() {
	b.t.Helper()
	s, err := server.NewServer(&server.Options{
		ServerName: "test", Host: "127.0.0.1", Port: b.port, NoSigs: true, NoLog: true, MaxPayload: bus.MaxPayload,
		// As in a Booster, the limits are those of the streams.
		JetStream: true, StoreDir: b.dir, JetStreamMaxStore: math.MaxInt64, JetStreamMaxMemory: 64 << 20,
	})
	if err != nil {
		b.t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(timeout) {
		b.t.Fatal("the test's NATS server does not start")
	}
	b.server = s
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c, err := bus.Dial(b.Config(), "set-up")
	if err != nil {
		b.t.Fatal(err)
	}
	defer c.Close()
	if err := bus.Ensure(ctx, c.JS, b.layout); err != nil {
		b.t.Fatal(err)
	}
}

// Stop stops the server; its data stay.
func (b *Bus) Stop() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
}

// Wipe makes the next Start one with an empty data directory.
func (b *Bus) Wipe() { b.dir = b.t.TempDir() }

// Config is how clients reach the bus.
func (b *Bus) Config() bus.ClientConfig { return bus.ClientConfig{IP: "127.0.0.1", Port: b.port} }

// Client is a connection like that of a service; it ends with the test.
func (b *Bus) Client() *bus.Client {
	b.t.Helper()
	c, err := bus.Connect(b.Config(), b.t.Name(), zerolog.Nop())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(c.Close)
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := c.WaitReady(ctx); err != nil {
		b.t.Fatal(err)
	}
	return c
}

// Messages is how many messages clients have sent to the server since it started.
func (b *Bus) Messages() int64 {
	b.t.Helper()
	v, err := b.server.Varz(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return v.InMsgs
}
