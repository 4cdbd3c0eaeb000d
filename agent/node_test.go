package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
	"github.com/omflow-booster/omflow-booster/internal/freeport"
	"github.com/omflow-booster/omflow-booster/internal/join"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

const (
	timeout = 30 * time.Second
	poll    = 20 * time.Millisecond
)

// node is the host of an OMFLOW Server, with an agent that can be started and stopped.
type node struct {
	t      *testing.T
	bus    *bustest.Bus
	client *bus.Client
	cfg    Config
	dir    string // events
	log    io.Writer
	agent  *Agent
	cancel context.CancelFunc
	done   chan error

	beforeDisk patch.Before // asked before every operation of a patch on the disk
}

// newNode prepares a host and starts nothing. Its home has the application "v0".
func newNode(t *testing.T, b *bustest.Bus, name string) *node {
	t.Helper()
	n := &node{t: t, bus: b, client: b.Client(), dir: t.TempDir(), log: zerolog.NewTestWriter(t)}
	address := freeAddress(t)
	n.cfg = Config{
		ClientConfig: b.Config(), Config: logging.Config{Level: "info", Format: "json"},
		ServerConfig: ServerConfig{
			Home: t.TempDir(), Command: fmt.Sprintf("'%s' server '%s' %s", os.Args[0], n.dir, address), HealthURL: "http://" + address,
		},
		DataConfig:    DataConfig{DataDir: t.TempDir(), Name: name, Worker: "on"},
		WitnessConfig: WitnessConfig{Witness: "off", WitnessPort: 5169},
		ProcessConfig: ProcessConfig{
			StopTimeout: timeout, HealthTimeout: timeout, HealthEvery: poll, Settle: 2 * poll, RestartMin: poll, RestartMax: time.Minute,
		},
		FilesConfig: FilesConfig{Watch: watchOff, Provision: "on", WatchQuiet: 100 * time.Millisecond, WatchEvery: 2 * time.Second},
		PatchConfig: PatchConfig{PatchEvery: 200 * time.Millisecond, PatchRetry: poll, HookTimeout: timeout},
		LogConfig:   LogConfig{LogSize: "10MB", LogKeep: 5},
	}
	key, err := ours()
	require.NoError(t, err)
	n.cfg.Python = filepath.Join(n.dir, "python")
	require.NoError(t, os.WriteFile(n.cfg.Python, fmt.Appendf(nil, "#!/bin/sh\nexec '%s' python '%s' \"$@\"\n", os.Args[0], n.dir), 0o755))
	n.cfg.SecondPort, n.cfg.JoinFile = 5169, joinFile(t, key)
	n.write("omflow/app.py", "v0")
	n.write("omflow/settings.py", "mine alone")
	t.Cleanup(n.stop)
	return n
}

// newBus starts a bus on which patches are rolled out, as an active Booster does.
func newBus(t *testing.T) *bustest.Bus {
	t.Helper()
	return newBusWith(t, rollout.Policy{MaxUnavailable: 1, MaxFailures: 100})
}

func newBusWith(t testing.TB, policy rollout.Policy) *bustest.Bus {
	t.Helper()
	b := bustest.New(t, bustest.Layout())
	c := &rollout.Coordinator{
		JS: b.Client().JS, Policy: policy, Timeout: timeout, Log: zerolog.Nop(), Exclusive: func() bool { return true },
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return b
}

func freeAddress(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", freePort(t))
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := freeport.Take(t.Context())
	require.NoError(t, err)
	return port
}

// start starts the agent and returns when it is ready.
func (n *node) start() {
	n.t.Helper()
	var err error
	n.agent, err = New(n.cfg, Deps{
		Client: n.client, WorkerCommand: []string{os.Args[0], "worker", n.dir}, WitnessCommand: []string{os.Args[0], "witness"},
	}, zerolog.New(n.log))
	require.NoError(n.t, err)
	n.agent.beforeDisk = n.beforeDisk
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel, n.done = cancel, make(chan error, 1)
	go func() { n.done <- n.agent.Run(ctx) }()
	select {
	case <-n.agent.Ready():
	case err := <-n.done:
		require.NoError(n.t, err)
	case <-time.After(timeout):
		n.t.Fatal("agent is not ready")
	}
}

func (n *node) stop() {
	if n.cancel == nil {
		return
	}
	n.cancel()
	n.cancel = nil
	require.NoError(n.t, <-n.done)
}

func (n *node) write(name, content string) {
	n.t.Helper()
	full := filepath.Join(n.cfg.Home, name)
	require.NoError(n.t, os.MkdirAll(filepath.Dir(full), 0o755))
	require.NoError(n.t, os.WriteFile(full, []byte(content), 0o644))
}

func (n *node) read(name string) string {
	n.t.Helper()
	data, err := os.ReadFile(filepath.Join(n.cfg.Home, name))
	require.NoError(n.t, err)
	return string(data)
}

type event struct {
	at     int64
	pid    int
	what   string
	detail string
}

// events are what happened to server and worker so far.
func (n *node) events() (list []event) {
	n.t.Helper()
	data, err := os.ReadFile(filepath.Join(n.dir, "events"))
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(n.t, err)
	for line := range strings.Lines(string(data)) {
		var e event
		_, err := fmt.Sscan(line, &e.at, &e.pid, &e.what)
		require.NoError(n.t, err)
		e.detail = strings.TrimSpace(strings.SplitN(line, " ", 4)[3])
		list = append(list, e)
	}
	return list
}

func (n *node) sequence() (words []string) {
	for _, e := range n.events() {
		words = append(words, e.what)
	}
	return words
}

func (n *node) count(what string) int {
	return strings.Count(strings.Join(n.sequence(), " "), what)
}

// report waits until the node has reported a state of a patch.
func (n *node) report(patchID, state string) patch.Report {
	n.t.Helper()
	var r patch.Report
	n.eventually(func() bool {
		reports, err := patch.Reports(context.Background(), n.client.JS)
		if err != nil {
			return false
		}
		for _, r = range reports[patchID] {
			if r.Node == n.cfg.Name && r.State == state {
				return true
			}
		}
		return false
	}, "report "+state)
	return r
}

// state waits until what the node says of itself fulfils cond. It is for a bus with one node.
func (n *node) state(cond func(s bus.AgentState) bool) bus.AgentState {
	n.t.Helper()
	var info bus.Node
	n.eventually(func() bool {
		reply, err := n.client.NC.Request("agent.info", nil, time.Second)
		if err != nil {
			return false
		}
		require.NoError(n.t, json.Unmarshal(reply.Data, &info))
		return info.Name == n.cfg.Name && cond(*info.Agent)
	}, "state")
	return *info.Agent
}

// idle waits until the node has dealt with all patches there are. It is for a bus with one node.
func (n *node) idle() {
	n.t.Helper()
	n.state(func(s bus.AgentState) bool { return s.PatchState == "current" })
}

func (n *node) eventually(cond func() bool, what string) {
	n.t.Helper()
	require.Eventually(n.t, cond, timeout, poll, what)
}

// artifact builds a patch and returns the name of its file.
func artifact(t testing.TB, files map[string]string, o patch.Options) (name string, m patch.Manifest) {
	t.Helper()
	dir := fstest.MapFS{}
	for path, content := range files {
		dir[path] = &fstest.MapFile{Data: []byte(content), Mode: 0o644}
	}
	var out bytes.Buffer
	if o.Signer == nil {
		key, err := ours()
		require.NoError(t, err)
		o.Signer = signerOf(t, key)
	}
	m, err := patch.Build(&out, dir, o)
	require.NoError(t, err)
	name = filepath.Join(t.TempDir(), m.ID)
	require.NoError(t, os.WriteFile(name, out.Bytes(), 0o600))
	return name, m
}

// publish publishes files as a patch, as `omflow-booster patch publish` does.
func publish(t testing.TB, c *bus.Client, files map[string]string, o patch.Options) patch.Announcement {
	t.Helper()
	name, _ := artifact(t, files, o)
	return republish(t, c, name)
}

func republish(t testing.TB, c *bus.Client, artifact string) patch.Announcement {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	anybody := func(string, []byte, []byte) error { return nil } // agents are to find out
	a, err := patch.Publish(ctx, c.JS, artifact, anybody, nil)
	require.NoError(t, err)
	return a
}

// ours holds the key that nodes trust unless a test says otherwise.
var ours = sync.OnceValues(func() (*join.File, error) { return join.New("ours", time.Now()) })

// newKey makes another one.
func newKey(t *testing.T) *join.File {
	t.Helper()
	f, err := join.New(t.Name(), time.Now())
	require.NoError(t, err)
	return f
}

// joinFile writes a join file for a node: without the private key.
func joinFile(t *testing.T, f *join.File) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "join.json")
	require.NoError(t, f.Public().Create(path))
	return path
}

func signerOf(t testing.TB, f *join.File) join.Signer {
	t.Helper()
	signer, err := f.Signer()
	require.NoError(t, err)
	return signer
}
