//go:build linux

package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

// booster is a running `omflow-booster broker`. Its data outlives its process, so again() is a restart.
type booster struct {
	*process
	port   int
	second *booster // the other one, if there are two
}

// startBooster starts a Booster on an empty store and waits until its streams are there.
func startBooster(t testing.TB, vars env) *booster {
	t.Helper()
	b := launchBooster(t, "booster", testkit.FreePort(t), vars)
	b.waitReady()
	return b
}

// launchBooster starts a Booster on an empty store.
func launchBooster(t testing.TB, name string, port int, vars env) *booster {
	t.Helper()
	b := prepareBooster(t, name, port, vars)
	b.again()
	return b
}

// prepareBooster is launchBooster without the start.
func prepareBooster(t testing.TB, name string, port int, vars env) *booster {
	t.Helper()
	b := &booster{port: port}
	b.process = prepare(t, name, merge(env{
		"BOOSTER_IP":       "127.0.0.1",
		"BOOSTER_PORT":     strconv.Itoa(b.port),
		"BOOSTER_DATA_DIR": dir(t),
		"BOOSTER_STORE_MB": "512", // many Boosters share the disk of a test machine
		"LOG_LEVEL":        "debug",
	}, vars), binary, "broker")
	return b
}

// restart starts a Booster again that was killed or stopped.
func (b *booster) restart() {
	b.t.Helper()
	b.again()
	b.waitReady()
}

// wipe removes all that a Booster, which has ended, has stored.
func (b *booster) wipe() {
	b.t.Helper()
	if b.running() {
		b.t.Fatal("the Booster still writes to its data directory")
	}
	if err := os.RemoveAll(b.vars["BOOSTER_DATA_DIR"]); err != nil {
		b.t.Fatal(err)
	}
}

func (b *booster) waitReady() {
	b.t.Helper()
	b.ready(func(ctx context.Context) error {
		c, err := bus.Dial(b.client(), "test")
		if err != nil {
			return err
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second) // look at the process in between
		defer cancel()
		return c.WaitReady(ctx)
	})
}

// client is how to reach the Booster or, if that does not answer, the other one.
func (b *booster) client() bus.ClientConfig {
	c := b.only()
	if b.second != nil {
		c.SecondIP, c.SecondPort = b.second.vars["BOOSTER_IP"], b.second.port
	}
	return c
}

// only is how to reach this Booster and no other.
func (b *booster) only() bus.ClientConfig {
	return bus.ClientConfig{IP: b.vars["BOOSTER_IP"], Port: b.port}
}

// env tells a worker, an agent or a command what client says.
func (b *booster) env() env {
	c := b.client()
	vars := env{"BOOSTER_IP": c.IP, "BOOSTER_PORT": strconv.Itoa(c.Port), "BOOSTER_JOIN_FILE": joinFile}
	if b.second != nil {
		vars["SECOND_BOOSTER_IP"], vars["SECOND_BOOSTER_PORT"] = c.SecondIP, strconv.Itoa(c.SecondPort)
	}
	return vars
}

// dial connects until the end of the test, and again whenever the Booster comes back.
func (b *booster) dial() *bus.Client {
	b.t.Helper()
	return b.dialTo(b.client())
}

func (b *booster) dialTo(where bus.ClientConfig) *bus.Client {
	b.t.Helper()
	c, err := bus.Connect(where, "test", zerolog.Nop())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(c.Close)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := c.WaitReady(ctx); err != nil {
		b.t.Fatal(err)
	}
	return c
}

// worker is a running `omflow-booster worker`.
type worker struct {
	*process
	socket string
	http   *http.Client // to the socket
}

// startWorker starts a worker, on the database that vars name, and waits until its local API answers.
func startWorker(t testing.TB, name string, b *booster, vars env) *worker {
	t.Helper()
	socket := filepath.Join(dir(t), "worker.sock")
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	w := &worker{socket: socket, http: &http.Client{Transport: transport, Timeout: startTimeout}}
	w.process = start(t, name, merge(b.env(), env{
		"WORKER_NAME":   name,
		"WORKER_SOCKET": socket,
		"LOG_LEVEL":     "debug",
	}, vars), binary, "worker")
	w.waitReady()
	return w
}

// restart starts a worker again that was killed or stopped.
func (w *worker) restart() {
	w.t.Helper()
	w.again()
	w.waitReady()
}

func (w *worker) waitReady() {
	w.t.Helper()
	w.ready(func(ctx context.Context) error {
		status, body, err := w.call(ctx, http.MethodGet, "/healthz", nil)
		if err != nil {
			return err
		}
		if status != http.StatusOK {
			return fmt.Errorf("healthz: %d %s", status, body)
		}
		return nil
	})
}

// accepting waits until the worker takes work: it answers before it knows whose steps the Booster carries, and refuses work until then.
func (w *worker) accepting() {
	w.t.Helper()
	w.ready(func(ctx context.Context) error {
		_, body, err := w.call(ctx, http.MethodGet, "/healthz", nil)
		if err == nil && !strings.Contains(string(body), `"accepts_work":true`) {
			err = fmt.Errorf("healthz: %s", body)
		}
		return err
	})
}

// call makes one request to the local API and returns the answer. An error is one of the connection.
func (w *worker) call(ctx context.Context, method, path string, body []byte) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://worker"+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	resp, err := w.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// state is what the worker says of itself.
func (w *worker) state(ctx context.Context) (bus.WorkerState, error) {
	status, body, err := w.call(ctx, http.MethodGet, "/v1/status", nil)
	if err != nil {
		return bus.WorkerState{}, err
	}
	var n bus.Node
	if err := json.Unmarshal(body, &n); err != nil || n.Worker == nil {
		return bus.WorkerState{}, fmt.Errorf("status: %d %s", status, body)
	}
	return *n.Worker, nil
}

// runners are the living runners of the worker.
func (w *worker) runners() []int {
	return slices.DeleteFunc(w.members(), func(pid int) bool {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		return err != nil || !strings.HasSuffix(string(line), "\x00runner\x00")
	})
}

// agent is a running `omflow-booster agent`.
type agent struct {
	*process
	home string      // of its OMFLOW Server
	bus  *bus.Client // to see the agent from outside
}

// startAgent starts an agent for the OMFLOW Server in home and waits until it shows itself on the bus.
func startAgent(t testing.TB, name string, b *booster, home string, vars env) *agent {
	t.Helper()
	a := &agent{home: home, bus: b.dial()}
	a.process = start(t, name, merge(b.env(), env{
		"OMFLOW_HOME":    home,
		"AGENT_NAME":     name,
		"AGENT_DATA_DIR": dir(t),
		"LOG_LEVEL":      "debug",
	}, vars), binary, "agent")
	a.waitReady()
	return a
}

// restart starts an agent again that was killed or stopped.
func (a *agent) restart() {
	a.t.Helper()
	a.again()
	a.waitReady()
}

func (a *agent) waitReady() {
	a.t.Helper()
	a.ready(func(ctx context.Context) error {
		_, err := a.state(ctx)
		return err
	})
}

// state is the heartbeat of this run of the agent.
func (a *agent) state(ctx context.Context) (bus.AgentState, error) {
	nodes, err := bus.Nodes(ctx, a.bus.JS)
	if err != nil {
		return bus.AgentState{}, err
	}
	for _, n := range nodes {
		if n.Role == bus.ServiceAgent && n.PID == a.pid() {
			return *n.Agent, nil
		}
	}
	return bus.AgentState{}, fmt.Errorf("%d nodes on the bus, none of them this agent", len(nodes))
}

func merge(all ...env) env {
	merged := env{}
	for _, vars := range all {
		maps.Copy(merged, vars)
	}
	return merged
}
