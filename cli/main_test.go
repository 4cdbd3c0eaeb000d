package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// stage is a real Booster's bus in this process, and an App that is told of it through the environment, as every user's
// is. The environment belongs to the whole process, so tests on a stage are not parallel.
type stage struct {
	t   *testing.T
	ctx context.Context
	c   *bus.Client
}

// newStage starts a server with everything that a Booster creates.
func newStage(t *testing.T) *stage {
	t.Helper()
	s := newBareStage(t)
	if err := bus.Ensure(s.ctx, s.c.JS, bus.Layout{StoreBytes: 256 << 20, Replicas: 1, Lease: 30 * time.Second}); err != nil {
		t.Fatal(err)
	}
	return s
}

// newBareStage starts a server that no Booster has prepared.
func newBareStage(t *testing.T) *stage {
	t.Helper()
	srv, err := server.NewServer(&server.Options{
		ServerName: "booster-1", Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(),
		MaxPayload: bus.MaxPayload, NoLog: true, NoSigs: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	if !srv.ReadyForConnections(10 * time.Second) {
		t.Fatal("embedded server does not start")
	}
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	useBooster(t, srv.ClientURL())
	c, err := bus.Dial(bus.ClientConfig{URL: srv.ClientURL()}, t.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return &stage{t: t, ctx: ctx, c: c}
}

// ours are the variables that our services and the server beside them read.
var ours = regexp.MustCompile("^(BOOSTER|WORKER|AGENT|SECOND_BOOSTER|HA_BOOSTER|LOG|OMFLOW)_|^DATABASE_URL$")

// useBooster points the environment to a Booster, and nowhere else.
func useBooster(t *testing.T, url string) {
	t.Helper()
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); ours.MatchString(name) {
			t.Setenv(name, "")
			if err := os.Unsetenv(name); err != nil { // t.Setenv brings it back
				t.Fatal(err)
			}
		}
	}
	t.Setenv("BOOSTER_URL", url)
}

// result is what a command line leaves behind.
type result struct {
	code   int
	stdout string
	stderr string
}

// run runs one command line as the user does.
func run(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var stdout strings.Builder
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stderr.Close() }()
	app := &App{Stdin: strings.NewReader(stdin), Stdout: &stdout, Stderr: stderr}
	code := app.Main(args)
	said, err := os.ReadFile(stderr.Name())
	if err != nil {
		t.Fatal(err)
	}
	return result{code: code, stdout: stdout.String(), stderr: string(said)}
}

// publish stores a message with headers, given as name, value, name, value.
func (s *stage) publish(subject, body string, headers ...string) {
	s.t.Helper()
	m := nats.NewMsg(subject)
	m.Data = []byte(body)
	for i := 0; i+1 < len(headers); i += 2 {
		m.Header.Set(headers[i], headers[i+1])
	}
	if _, err := s.c.JS.PublishMsg(s.ctx, m); err != nil {
		s.t.Fatalf("publish %s: %v", subject, err)
	}
}

// body is a small item of a kind.
func body(kind string) string {
	return `{"queue_id":"x","name":"` + kind + `","module_name":"m","method_name":"main","input_param":{}}`
}

// putWork queues a step, putDead buries one.
func (s *stage) putWork(kind, flow, id string) {
	s.t.Helper()
	s.publish(bus.WorkSubject(kind, flow, id), body(kind),
		bus.HeaderID, id, bus.HeaderKind, kind, bus.HeaderKey, flow+"/7", bus.HeaderMsgID, "first-"+id)
}

func (s *stage) putDead(kind, flow, id, item string) {
	s.t.Helper()
	s.publish(bus.DeadSubject(kind, flow, id), item,
		bus.HeaderID, id, bus.HeaderKind, kind, bus.HeaderKey, flow+"/7", bus.HeaderAttempt, "5",
		bus.HeaderDeadReason, "5 attempts failed", bus.HeaderDeadError, "boom", bus.HeaderDeadWorker, "w1",
		bus.HeaderDeadAt, time.Now().Add(-90*time.Second).Format(time.RFC3339))
}

// runningServer is the heartbeat of an agent whose OMFLOW Server runs.
func runningServer(name, version string) bus.Node {
	state := &bus.AgentState{HomeVersion: version, AgentChildren: bus.AgentChildren{Server: "running"}}
	return bus.Node{Role: bus.ServiceAgent, Name: name, At: time.Now(), Agent: state}
}

func (s *stage) putNode(n bus.Node) {
	s.t.Helper()
	kv, err := s.c.JS.KeyValue(s.ctx, bus.BucketNodes)
	if err != nil {
		s.t.Fatal(err)
	}
	data, err := json.Marshal(n)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := kv.Put(s.ctx, n.Key(), data); err != nil {
		s.t.Fatal(err)
	}
}

// holds lists what a stream holds: the id of each step, with "discard" for an order to discard it.
func (s *stage) holds(name string) []string {
	s.t.Helper()
	stream, err := bus.OpenStream(s.ctx, s.c.JS, name)
	if err != nil {
		s.t.Fatal(err)
	}
	list := []string{}
	for m, err := range bus.Messages(s.ctx, stream, ">") {
		if err != nil {
			s.t.Fatal(err)
		}
		text := bus.SubjectID(m.Subject)
		if m.Header.Get(bus.HeaderDiscard) == "true" {
			text += " discard"
		}
		list = append(list, text)
	}
	return list
}

// take does what a worker does with the next step: it confirms its end, so that it leaves WORK.
func (s *stage) take() jetstream.Msg {
	s.t.Helper()
	m := s.fetch()
	if err := m.DoubleAck(s.ctx); err != nil {
		s.t.Fatal(err)
	}
	return m
}

// fetch takes the next step as a worker does, and goes on running it.
func (s *stage) fetch() jetstream.Msg {
	s.t.Helper()
	consumer, err := s.c.JS.Consumer(s.ctx, bus.StreamWork, bus.ConsumerWorkers)
	if err != nil {
		s.t.Fatal(err)
	}
	m, err := consumer.Next(jetstream.FetchMaxWait(5 * time.Second))
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

// wantJSON compares a printed document with what it should be, written as JSON too.
func wantJSON(t *testing.T, got, want string) {
	t.Helper()
	normal := func(text string) string {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatalf("not one JSON document: %v\n%s", err, text)
		}
		out, _ := json.MarshalIndent(v, "", "  ")
		return string(out)
	}
	if g, w := normal(got), normal(want); g != w {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
}
