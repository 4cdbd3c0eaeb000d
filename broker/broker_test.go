package broker

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/leaktest"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

const timeout = 2 * time.Minute // clusters of several servers on two cores, with the race detector

func TestMain(m *testing.M) {
	leaktest.Main(m)
}

func testConfig(t *testing.T) Config {
	t.Helper()
	return Config{
		Config: logging.Config{Level: "info", Format: "auto"}, Network: Network{Port: testkit.FreePort(t)},
		Rollout: Rollout{Servers: 1, Timeout: time.Minute},
		DataDir: t.TempDir(), Sync: Sync{Interval: time.Second}, StoreMB: 256,
		Lease: 30 * time.Second, ReadyAfter: timeout,
	}
}

// made is a Booster that has not run yet.
func made(t *testing.T, cfg Config, log zerolog.Logger) *Broker {
	t.Helper()
	b, err := New(cfg, log)
	require.NoError(t, err)
	return b
}

// What tests ask the parts of a Booster; before its server has started it is nothing yet.
func (b *Broker) name() string { return b.store.bootState().Name }

func (b *Broker) view() *view {
	if l := b.now.Load(); l != nil {
		return l.member.control.view.Load()
	}
	return nil
}

func (b *Broker) leads() bool      { l := b.now.Load(); return l != nil && l.cluster.leads() }
func (b *Broker) active() bool     { l := b.now.Load(); return l != nil && l.lease.active() }
func (b *Broker) takeover() string { return b.now.Load().report.takeover() }

// started is a Booster that runs until stop is called or the test ends.
func started(t *testing.T, cfg Config) (b *Broker, stop func() error) {
	t.Helper()
	b = made(t, cfg, zerolog.New(zerolog.NewTestWriter(t)))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx); close(ended) }()
	stop = func() error { cancel(); return <-ended }
	t.Cleanup(func() { _ = stop() })
	select {
	case <-b.Ready():
	case err := <-ended:
		t.Fatalf("Booster does not start: %v", err)
	}
	return b, stop
}

func dial(t *testing.T, cfg Config) *bus.Client {
	t.Helper()
	c, err := bus.Dial(bus.ClientConfig{IP: "127.0.0.1", Port: cfg.Port}, t.Name())
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// A nuid is the prefix of this process and a count, and inboxes are nuids: who sees one could compute the password.
func TestPasswordOfTheSystemAccountIsNoCountedID(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	b, stop := started(t, cfg)
	const prefix = 12 // of a nuid
	public := nuid.Next()[:prefix]
	require.Contains(t, b.now.Load().node.nc.NewInbox(), public, "an inbox shows it")
	require.NotContains(t, b.now.Load().node.secret, public)
	require.GreaterOrEqual(t, len(b.now.Load().node.secret), 26, "128 bits")
	first := b.now.Load().node.secret
	require.NoError(t, stop())
	again, _ := started(t, cfg)
	require.NotEqual(t, first, again.now.Load().node.secret, "new with each start")
}

func TestStartCreatesTheBusAndRestartKeepsIt(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	first, stop := started(t, cfg)
	c := dial(t, cfg)
	_, err := c.JS.Publish(t.Context(), "work.formflow.f1.q1", []byte("x"))
	require.NoError(t, err)
	name := first.store.bootState().Name
	c.Close()
	require.NoError(t, stop(), "a requested stop is no error")

	second, _ := started(t, cfg)
	require.Equal(t, name, second.store.bootState().Name, "the name is generated once")
	c = dial(t, cfg)
	stream, err := c.JS.Stream(t.Context(), bus.StreamWork)
	require.NoError(t, err)
	require.EqualValues(t, 1, stream.CachedInfo().State.Msgs)
	for _, want := range []string{bus.StreamWork, bus.StreamDead, bus.StreamPatch, "KV_NODES", "KV_ROLLOUT", "KV_CONTROL", "OBJ_PATCHES"} {
		s, err := c.JS.Stream(t.Context(), want)
		require.NoError(t, err, want)
		require.Positive(t, s.CachedInfo().Config.MaxBytes, "%s has a limit", want)
	}
	consumer, err := stream.Consumer(t.Context(), bus.ConsumerWorkers)
	require.NoError(t, err)
	require.Equal(t, cfg.Lease, consumer.CachedInfo().Config.AckWait)
	require.Eventually(t, func() bool {
		nodes, err := bus.Nodes(t.Context(), c.JS)
		return err == nil && len(nodes) == 1 && nodes[0].Booster != nil && nodes[0].Name == name
	}, timeout, 20*time.Millisecond)
}

func TestRestartBringsLimitsUpToDate(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	for _, tc := range []struct {
		storeMB int64
		lease   time.Duration
	}{{256, 30 * time.Second}, {1024, 40 * time.Second}, {256, 20 * time.Second}} { // up and down again
		cfg.StoreMB, cfg.Lease = tc.storeMB, tc.lease
		_, stop := started(t, cfg)
		c := dial(t, cfg)
		stream, err := c.JS.Stream(t.Context(), bus.StreamWork)
		require.NoError(t, err)
		require.InDelta(t, float64(tc.storeMB)*0.4*mib, float64(stream.CachedInfo().Config.MaxBytes), mib)
		consumer, err := stream.Consumer(t.Context(), bus.ConsumerWorkers)
		require.NoError(t, err)
		require.Equal(t, tc.lease, consumer.CachedInfo().Config.AckWait)
		c.Close()
		require.NoError(t, stop())
	}
}

func TestTheSameRowIsQueuedOnce(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	started(t, cfg)
	c := dial(t, cfg)
	publish := func(id string) error {
		_, err := c.JS.Publish(t.Context(), "work.formflow.f1.q7", []byte("x"), jetstream.WithMsgID(id))
		return err
	}
	require.NoError(t, publish("a"))
	require.True(t, bus.IsQueued(publish("b")), "another message id, the same row")
}

// wrongSettings: each fails with one line that names the variable, and leaves everything as it was.
func TestWhatKeepsABoosterFromStarting(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spoil    func(t *testing.T, cfg *Config)
		variable string
		says     string
	}{
		"port taken": {func(t *testing.T, cfg *Config) {
			l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(cfg.Port))
			require.NoError(t, err)
			t.Cleanup(func() { _ = l.Close() })
		}, "BOOSTER_PORT", fmt.Sprintf("is taken by broker.test (process %d); stop that program or choose another port", os.Getpid())},
		"directory cannot be made": {func(t *testing.T, cfg *Config) {
			file := filepath.Join(cfg.DataDir, "file")
			require.NoError(t, os.WriteFile(file, nil, 0o600))
			cfg.DataDir = filepath.Join(file, "data")
		}, "BOOSTER_DATA_DIR", "make it writable for this user or choose another"},
		"directory in use": {func(t *testing.T, cfg *Config) {
			s, err := openStore(t.Context(), cfg.DataDir, "", modeStandalone)
			require.NoError(t, err)
			t.Cleanup(s.close)
		}, "BOOSTER_DATA_DIR", fmt.Sprintf("is in use by another Booster (process %d)", os.Getpid())},
		"written by another mode": {
			marked(`{"format":1,"mode":"cluster","name":"b1"}`), "BOOSTER_DATA_DIR",
			`is left untouched: it was written in mode "cluster" and this Booster runs alone`,
		},
		"written by a newer program": {
			marked(`{"format":2,"mode":"standalone","name":"b1"}`), "BOOSTER_DATA_DIR",
			"written by a newer omflow-booster",
		},
		"marker damaged": {marked(`{"format":`), "BOOSTER_DATA_DIR", "booster.json is damaged"},
		"another name": {func(t *testing.T, cfg *Config) {
			marked(`{"format":1,"mode":"standalone","name":"b1"}`)(t, cfg)
			cfg.Name = "b2"
		}, "BOOSTER_NAME", `"b2", but the data directory belongs to "b1"`},
		"store of another program": {func(t *testing.T, cfg *Config) {
			require.NoError(t, os.MkdirAll(filepath.Join(cfg.DataDir, "jetstream", "$G"), 0o750))
		}, "BOOSTER_DATA_DIR", "without booster.json: another program wrote it"},
		"more than the disk has": {func(_ *testing.T, cfg *Config) { cfg.StoreMB = 1 << 30 }, "BOOSTER_STORE_MB", "has room for"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t)
			tc.spoil(t, &cfg)
			b, err := New(cfg, zerolog.Nop())
			if err == nil {
				err = b.Run(t.Context())
			}
			var wrong *config.Error
			require.ErrorAs(t, err, &wrong)
			require.Equal(t, tc.variable, wrong.Var)
			require.Contains(t, err.Error(), tc.says)
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func marked(state string) func(t *testing.T, cfg *Config) {
	return func(t *testing.T, cfg *Config) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(cfg.DataDir, bootStateName), []byte(state), 0o600))
	}
}

func TestBudget(t *testing.T) {
	t.Parallel()
	s := &store{dir: t.TempDir()}
	disk := func(mb int64) func(string) (int64, error) {
		return func(string) (int64, error) { return mb * mib, nil }
	}
	for _, tc := range []struct{ asked, free, want int64 }{
		{0, 10_000, 8_000}, {0, 1_000_000, 20_000}, {300, 10_000, 300}, {0, 600, 480},
	} {
		got, err := s.budget(tc.asked, disk(tc.free))
		require.NoError(t, err)
		require.Equal(t, tc.want, got/mib)
	}
	_, err := s.budget(0, disk(100))
	require.ErrorContains(t, err, "nearly full: 100 MB free, 512 MB needed")
}

func TestStoreThatFailsEndsTheBooster(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	b := made(t, cfg, zerolog.Nop())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(context.Background()) }()
	<-b.Ready()
	require.NoError(t, b.now.Load().node.server.DisableJetStream())
	select {
	case err := <-ended:
		require.ErrorContains(t, err, "store in "+cfg.DataDir+" failed")
	case <-time.After(timeout):
		t.Fatal("a Booster without its store goes on")
	}
}

func TestSync(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"auto": "auto", "always": "always", "250ms": "250ms"} {
		var s Sync
		require.NoError(t, s.Decode(in))
		require.Equal(t, want, s.String())
	}
	for _, in := range []string{"", "never", "1", "1ns", "24h"} {
		var s Sync
		require.ErrorContains(t, s.Decode(in), "use auto, always, or an interval", in)
	}
}

func TestWhatABoosterWaitsFor(t *testing.T) {
	t.Parallel()
	l := &life{member: &membership{control: &controller{}}}
	require.Contains(t, l.awaited(false, 5170), "waiting for the other Booster")
	l.member.control.view.Store(&view{})
	require.Contains(t, l.awaited(false, 5170), "check HA_BOOSTER_IP and port 5170")
	l.member.control.view.Store(&view{metaLeader: "x"})
	require.Contains(t, l.awaited(false, 5170), "nobody leads them yet")
	require.Contains(t, l.awaited(true, 5170), "is being restored")
	require.Contains(t, (&life{}).awaited(false, 5170), "the store does not answer yet", "a single Booster waits for no other one")
}
