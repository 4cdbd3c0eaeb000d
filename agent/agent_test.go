package agent

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

func TestServerStartsBeforeTheWorkerAndStopsAfterIt(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	n.start()
	n.eventually(func() bool { return n.count("worker-start") == 1 }, "worker runs")
	s := n.state(func(s bus.AgentState) bool {
		return s.Worker == "running" && s.Server == "running" && s.PatchState == "current"
	})
	for _, e := range n.events() {
		switch e.what {
		case "server-start":
			require.Equal(t, e.pid, s.ServerPID)
		case "worker-start":
			require.Equal(t, e.pid, s.WorkerPID)
			require.Equal(t, "srv1/srv1", e.detail, "the worker is named after the agent")
		}
	}
	require.False(t, s.Cordoned)

	var beat bus.Node
	n.eventually(func() bool {
		nodes, err := bus.Nodes(t.Context(), n.client.JS)
		require.NoError(t, err)
		if len(nodes) == 1 {
			beat = nodes[0]
		}
		return len(nodes) == 1 && beat.Agent.Worker == "running"
	}, "heartbeat")
	require.Equal(t, "agent.srv1", beat.Key())
	require.Equal(t, s, *beat.Agent)

	n.stop()
	require.Equal(t, []string{"server-start", "server-healthy", "worker-start", "worker-drains", "worker-stop", "server-stop"}, n.sequence())
	nodes, err := bus.Nodes(t.Context(), n.client.JS)
	require.NoError(t, err)
	require.Empty(t, nodes, "a stopped agent leaves no heartbeat")
}

// No Booster is needed to run the server.
func TestServerRunsWithoutABooster(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	n := newNode(t, b, "srv1")
	b.Stop()
	n.start()
	n.eventually(func() bool { return n.count("worker-start") == 1 }, "worker runs")
	b.Start()
	n.state(func(s bus.AgentState) bool { return s.PatchState == "current" })
}

func TestServerThatEndsIsStartedAgainAndReported(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	n.write("broken", "")
	n.cfg.HealthTimeout = 300 * time.Millisecond
	n.start() // ready all the same, with a worker
	n.eventually(func() bool { return n.count("worker-start") == 1 }, "worker runs")
	s := n.state(func(s bus.AgentState) bool { return s.Restarts > 2 && s.Server == "failing" && s.Worker != "starting" })
	require.Equal(t, "server: exit status 3; its last line: cannot start", s.LastError)
	require.NoError(t, os.Remove(filepath.Join(n.cfg.Home, "broken")))
	n.eventually(func() bool { return n.count("server-healthy") == 1 }, "server runs")
}

func TestAgentWithoutServerAndWorker(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "")
	n.cfg.Command, n.cfg.HealthURL, n.cfg.Worker = "", "", "off"
	n.start()
	name := nameOf(t, n)
	reply, err := n.client.NC.Request("agent.info", nil, timeout)
	require.NoError(t, err)
	var info bus.Node
	require.NoError(t, json.Unmarshal(reply.Data, &info))
	require.Equal(t, stateNone, info.Agent.Server)
	require.Equal(t, stateNone, info.Agent.Worker)
	require.Equal(t, name, info.Name)
	n.stop()
	n.start()
	require.Equal(t, name, nameOf(t, n), "a generated name is kept")
	require.Empty(t, n.events())
}

func nameOf(t *testing.T, n *node) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(n.cfg.DataDir, identityFile))
	require.NoError(t, err)
	var who identity
	require.NoError(t, json.Unmarshal(data, &who))
	host, err := os.Hostname()
	require.NoError(t, err)
	require.Regexp(t, "^"+bus.Token(host)+"-[a-z0-9]{4}$", who.Name)
	return who.Name
}

func TestSecondAgentIsRefusedAndToldWhoRuns(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	n.start()
	second, err := New(n.cfg, Deps{Client: n.client}, zerolog.Nop())
	require.NoError(t, err)
	err = second.Run(t.Context())
	var wrong *config.Error
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, "AGENT_DATA_DIR", wrong.Var)
	require.ErrorContains(t, err, strconv.Itoa(os.Getpid()))
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	ok := newNode(t, b, "srv1")
	ok.cfg.LogDir = filepath.Join(ok.cfg.Home, "logs", "agent") // no patch has anything below logs/
	require.NoError(t, ok.cfg.Validate())
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for name, c := range map[string]struct {
		spoil func(c *Config)
		wrong string
	}{
		"no home":          {func(c *Config) { c.Home = "" }, "OMFLOW_HOME"},
		"home is missing":  {func(c *Config) { c.Home = "/no/such/place" }, "OMFLOW_HOME"},
		"home is a file":   {func(c *Config) { c.Home = file }, "OMFLOW_HOME"},
		"command":          {func(c *Config) { c.Command = "python 'x" }, "OMFLOW_COMMAND"},
		"health URL":       {func(c *Config) { c.HealthURL = "localhost:8000" }, "OMFLOW_HEALTH_URL"},
		"worker":           {func(c *Config) { c.Worker = "yes" }, "AGENT_WORKER"},
		"stop timeout":     {func(c *Config) { c.StopTimeout = 0 }, "AGENT_STOP_TIMEOUT"},
		"port":             {func(c *Config) { c.Port = 0 }, "BOOSTER_PORT"},
		"log size":         {func(c *Config) { c.LogSize = "ten" }, "AGENT_LOG_SIZE"},
		"tiny log":         {func(c *Config) { c.LogSize = "10KB" }, "AGENT_LOG_SIZE"},
		"logs to keep":     {func(c *Config) { c.LogKeep = -1 }, "AGENT_LOG_KEEP"},
		"pauses":           {func(c *Config) { c.RestartMin, c.RestartMax = time.Minute, time.Second }, "AGENT_RESTART_MAX"},
		"cannot vote":      {func(c *Config) { c.Witness = "on" }, "AGENT_WITNESS"},
		"no data dir":      {func(c *Config) { c.DataDir = "" }, "AGENT_DATA_DIR"},
		"data dir, a file": {func(c *Config) { c.DataDir = filepath.Join(file, "x") }, "AGENT_DATA_DIR"},
		"data in the home": {func(c *Config) { c.DataDir = filepath.Join(c.Home, "new", "agent") }, "AGENT_DATA_DIR"},
		"logs in the home": {func(c *Config) { c.LogDir = filepath.Join(c.Home, "omflow", "..", "server-logs") }, "AGENT_LOG_DIR"},
		"home by a link": {func(c *Config) {
			linked := filepath.Join(filepath.Dir(file), "current")
			require.NoError(t, os.Symlink(c.Home, linked))
			c.DataDir, c.Home = filepath.Join(c.Home, "agent"), linked
		}, "AGENT_DATA_DIR"},
		"key in the home": {func(c *Config) {
			key, err := ours()
			require.NoError(t, err)
			c.JoinFile = filepath.Join(c.Home, "join.json")
			require.NoError(t, key.Create(c.JoinFile))
		}, "BOOSTER_JOIN_FILE"},
	} {
		n := newNode(t, b, "srv1")
		c.spoil(&n.cfg)
		a, err := New(n.cfg, Deps{Client: n.client}, zerolog.Nop())
		if err == nil {
			ctx, cancel := context.WithTimeout(t.Context(), timeout) // one that is not refused runs on
			err = a.Run(ctx)
			cancel()
		}
		var wrong *config.Error
		require.ErrorAs(t, err, &wrong, name)
		require.Equal(t, c.wrong, wrong.Var, name)
	}
}

// The worker of a cordoned node reads the cordon for itself and pulls nothing. It runs on: the server hands its steps over to it.
func TestCordonedNodeKeepsItsWorker(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	n.start()
	n.eventually(func() bool { return n.count("worker-start") == 1 }, "worker runs")
	require.NoError(t, bus.SetCordon(t.Context(), n.client.JS, "srv1", bus.Cordon{By: "ann"}))
	n.state(func(s bus.AgentState) bool { return s.Cordoned && s.Server == "running" && s.Worker == "running" })
	require.Zero(t, n.count("worker-stop"))

	a := publish(t, n.client, map[string]string{"omflow/app.py": "v1"}, patch.Options{})
	n.report(a.ID, patch.StateApplied)
	n.state(func(s bus.AgentState) bool {
		return s.Cordoned && s.Server == "running" && s.Worker == "running" && s.PatchState == "current"
	})
	n.eventually(func() bool { return n.count("worker-start") == 2 }, "the worker that runs again has said so")
	require.Equal(t, [2]int{1, 2}, [2]int{n.count("worker-stop"), n.count("worker-start")}, "a patch restarts it all the same")

	n.stop()
	n.start()
	n.state(func(s bus.AgentState) bool { return s.Cordoned && s.Worker == "running" })
	require.NoError(t, bus.LiftCordon(t.Context(), n.client.JS, "srv1"))
	n.state(func(s bus.AgentState) bool { return !s.Cordoned && s.Worker == "running" })
}

// A worker that does not run because the server starts or is patched is not cordoned: nobody has ordered it.
func TestOnlyAnOrderIsACordon(t *testing.T) {
	t.Parallel()
	h, err := newHost(&Config{}, nil, "srv1", "mark", zerolog.Nop())
	require.NoError(t, err)
	cordoned := func() bool {
		var s bus.AgentState
		h.describe(&s)
		return s.Cordoned
	}
	require.False(t, cordoned(), "it has not started yet")
	require.NoError(t, h.start(t.Context()))
	require.NoError(t, h.stopAll())
	require.False(t, cordoned(), "it is stopped for a patch")
	h.cordon(true)
	require.True(t, cordoned())
	h.cordon(false)
	require.False(t, cordoned())
}
