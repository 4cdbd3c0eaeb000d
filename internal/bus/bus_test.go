package bus_test

import (
	"context"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
	"github.com/omflow-booster/omflow-booster/internal/leaktest"
)

const timeout = 20 * time.Second

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestSubjectsAreSafeTokens(t *testing.T) {
	t.Parallel()
	require.Equal(t, "work.formflow.dc33.q7", bus.WorkSubject("FormFlow", "dc33", "q7"))
	require.Equal(t, "dead.-.a_b__.o1", bus.DeadSubject("", "a b.>", "o1"))
	require.Len(t, bus.Token(strings.Repeat("x", 5000)), 61, "long subjects make the server close the connection")
	require.NotEqual(t, bus.Token(strings.Repeat("x", 5000)), bus.Token(strings.Repeat("x", 5001)))
	require.Equal(t, "o1", bus.SubjectID("dead.x.y.o1"))
	require.Equal(t, "one line", bus.HeaderText("one\nline\x00"))
	require.LessOrEqual(t, len(bus.HeaderText(strings.Repeat("é", 2000))), 1003)
}

func TestNamesAreTokensOfTheirOwn(t *testing.T) {
	t.Parallel()
	for name, token := range map[string]string{
		"server-1": "server-1", "om_1": "om_1", "a=b": "a=b", "om1.example.com": "om1=2Eexample=2Ecom", "om1_example_com": "om1_example_com",
		"": "-", "-": "=2D", "a=2D": "a=3D2D", "a b>*/": "a=20b=3E=2A=2F", "=": "=", "==41": "==3D41", "=4.": "=4=2E",
	} {
		require.Equal(t, token, bus.Token(name), name)
		require.Equal(t, name, bus.FromToken(token), token)
	}
	valid := regexp.MustCompile(`^[-_=a-zA-Z0-9]+$`)
	whose := map[string]string{}
	for _, name := range []string{
		"台北", "高雄", "東京", "om1.example.com", "om1_example_com", "om1-example-com", "OM1", "om1", "\xff", "\xfe",
		"ü", "u\u0308", " ", "_",
	} {
		token := bus.Token(name)
		require.Regexp(t, valid, token)
		require.Equal(t, name, bus.FromToken(token))
		require.Empty(t, whose[token], "%q and %q are one node", name, whose[token])
		whose[token] = name
	}
	long := strings.Repeat("北", 100)
	require.Regexp(t, valid, bus.Token(long))
	require.Less(t, len(bus.Token(long)), 160)
	require.NotEqual(t, bus.Token(long), bus.Token(long+"x"))
	require.Equal(t, bus.FormerToken("om1.example.com"), bus.FormerToken("om1_example_com"), "why there is another one now")
}

func FuzzTokenComesBack(f *testing.F) {
	for _, s := range []string{"", "-", "=", "=2D", "==3D", "om1.example.com", "台北"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) <= 64 {
			require.Equal(t, s, bus.FromToken(bus.Token(s)))
		}
	})
}

func TestSecretsOfURLsAreNotShown(t *testing.T) {
	t.Parallel()
	c := bus.ClientConfig{URL: "nats://me:s3cret@127.0.0.1:1, nats://127.0.0.1:2"}
	require.Equal(t, "nats://me:xxxxx@127.0.0.1:1,nats://127.0.0.1:2", c.Shown())
	_, err := bus.Dial(c, "test")
	require.ErrorIs(t, err, bus.ErrNoBooster)
	require.NotContains(t, err.Error(), "s3cret")
}

func TestErrorsOfAFullAndAnOccupiedQueue(t *testing.T) {
	t.Parallel()
	layout := bustest.Layout()
	layout.StoreBytes = 1 << 20
	c := bustest.New(t, layout).Client()
	publish := func(id string) error {
		_, err := c.JS.PublishMsg(t.Context(), &nats.Msg{Subject: "work.k.f." + id, Data: make([]byte, 100_000)})
		return err
	}
	require.NoError(t, publish("q1"))
	again := publish("q1")
	require.True(t, bus.IsQueued(again))
	require.False(t, bus.IsFull(again))
	var full error
	for n := 0; full == nil; n++ {
		full = publish("r" + strings.Repeat("x", n))
	}
	require.True(t, bus.IsFull(full), full)
	require.False(t, bus.IsQueued(full))
}

func TestHeartbeatComesAndGoes(t *testing.T) {
	t.Parallel()
	c := bustest.New(t, bustest.Layout()).Client()
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = bus.Heartbeat(ctx, c.JS, zerolog.Nop(), nil, func() bus.Node { return bus.Node{Role: "worker", Name: "host.name 1"} })
	}()
	names := func() (names []string) {
		nodes, err := bus.Nodes(t.Context(), c.JS)
		require.NoError(t, err)
		for _, n := range nodes {
			names = append(names, n.Name)
		}
		return names
	}
	require.Eventually(t, func() bool { return len(names()) == 1 }, timeout, 20*time.Millisecond)
	require.Equal(t, []string{"host.name 1"}, names())
	stop()
	<-over
	require.Empty(t, names(), "a node that stops takes its entry along")
}

// lock runs fn under a lock of the test until stop is called.
func lock(t *testing.T, js jetstream.JetStream, holder string, fn func(ctx context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = bus.Lock{JS: js, Name: "test", Holder: holder, TTL: 600 * time.Millisecond}.Run(ctx, fn)
	}()
	stop = func() { cancel(); <-over }
	t.Cleanup(stop)
	return stop
}

func TestLockHasOneHolderAndPassesOn(t *testing.T) {
	t.Parallel()
	b := bustest.New(t, bustest.Layout())
	var holders, terms, most atomic.Int32
	hold := func(ctx context.Context) error {
		terms.Add(1)
		if n := holders.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer holders.Add(-1)
		<-ctx.Done()
		return nil
	}
	var stops []func()
	for _, name := range []string{"a", "b", "c"} {
		stops = append(stops, lock(t, b.Client().JS, name, hold))
	}
	for range stops { // the holder stops; another one follows at once, without waiting for the TTL
		require.Eventually(t, func() bool { return holders.Load() == 1 }, timeout, 5*time.Millisecond)
		stops[0]()
		stops = stops[1:]
	}
	require.EqualValues(t, 1, most.Load())
}

func TestLockOfADeadHolderIsTakenAfterItsTTL(t *testing.T) {
	t.Parallel()
	b := bustest.New(t, bustest.Layout())
	kv, err := b.Client().JS.KeyValue(t.Context(), bus.BucketControl)
	require.NoError(t, err)
	_, err = kv.Create(t.Context(), "lock.test", []byte("dead since long"))
	require.NoError(t, err)
	began := time.Now()
	taken := make(chan time.Duration, 1)
	lock(t, b.Client().JS, "heir", func(context.Context) error { taken <- time.Since(began); return nil })
	select {
	case after := <-taken:
		require.GreaterOrEqual(t, after, 600*time.Millisecond, "never before the holder must have stopped")
	case <-time.After(timeout):
		t.Fatal("lock of a dead holder is never taken")
	}
}

func TestLockEndsWhenItCannotBeTrusted(t *testing.T) {
	t.Parallel()
	b := bustest.New(t, bustest.Layout())
	held, lost := make(chan struct{}, 10), make(chan struct{}, 10)
	lock(t, b.Client().JS, "a", func(ctx context.Context) error {
		held <- struct{}{}
		<-ctx.Done()
		lost <- struct{}{}
		return nil
	})
	<-held
	b.Stop()
	select {
	case <-lost:
	case <-time.After(timeout):
		t.Fatal("the holder trusts a lock that it cannot renew")
	}
	b.Start()
	select {
	case <-held: // and comes back to it
	case <-time.After(timeout):
		t.Fatal("the lock is not taken again")
	}
}

func TestDialSaysWhereNobodyAnswers(t *testing.T) {
	t.Parallel()
	_, err := bus.Dial(bus.ClientConfig{IP: "127.0.0.1", Port: 1, SecondIP: "127.0.0.1", SecondPort: 2}, "test")
	require.ErrorIs(t, err, bus.ErrNoBooster)
	require.ErrorContains(t, err, "nats://127.0.0.1:1,nats://127.0.0.1:2")
}

// A reader that looks at once may look too early: JetStream has not stored the message that just went by.
func TestNotificationComesAgain(t *testing.T) {
	t.Parallel()
	c := bustest.New(t, bustest.Layout()).Client()
	notify, stop := bus.Notify(c.NC, "a", "b")
	defer stop()
	require.NoError(t, c.NC.Flush())
	require.NoError(t, c.NC.Publish("b", nil))
	for range 2 {
		select {
		case <-notify:
		case <-time.After(20 * time.Second):
			t.Fatal("not notified")
		}
	}
}
