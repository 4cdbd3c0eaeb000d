package agent

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// The process that is started need not be the one that answers: a shell that puts the server into a session of its own ends without it.
func TestServerThatOutlivesItsCommandDoesNotProveAPatch(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	n.cfg.HealthTimeout = 50 * poll
	n.cfg.Command = fmt.Sprintf(`sh -c "setsid %s & wait"`, n.cfg.Command)
	n.start()
	a := publish(t, n.client, map[string]string{"broken": "", "omflow/app.py": "v1"}, patch.Options{})
	r := n.report(a.ID, patch.StateRolledBack)
	require.Contains(t, r.Error, "not healthy")
	require.Equal(t, "v0", n.read("omflow/app.py"))
	stopped, alone := 0, true
	for _, what := range n.sequence() {
		switch what {
		case "server-start":
			alone = alone && stopped >= 0
			stopped = -1
		case "server-stop":
			stopped = 0
		}
	}
	require.True(t, alone, "no server starts before the one before it has ended: %v", n.sequence())
}

// A program that is no child of the agent answers at the health URL: the server is not started beside it, and the state names the reason.
func TestServerIsNotStartedBesideAForeignOne(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	listener, err := net.Listen("tcp", n.cfg.HealthURL[len("http://"):])
	require.NoError(t, err)
	foreign := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go func() { _ = foreign.Serve(listener) }()
	t.Cleanup(func() { _ = foreign.Close() })
	n.cfg.HealthTimeout = 10 * poll
	n.start()
	s := n.state(func(s bus.AgentState) bool { return s.LastError != "" })
	require.Contains(t, s.LastError, "another program answers")
	require.Zero(t, n.count("server-start"))
	require.NoError(t, foreign.Close())
	n.eventually(func() bool { return n.count("server-healthy") == 1 }, "it starts when the other one is gone")
}

// A server that answers once and falls over is not a version for the other servers.
func TestServerThatDiesAfterItAnsweredKeepsTheOldVersion(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	n.cfg.Settle = timeout
	n.start()
	a := publish(t, n.client, map[string]string{"omflow/app.py": "v1", "falls-over": ""}, patch.Options{})
	r := n.report(a.ID, patch.StateRolledBack)
	require.Contains(t, r.Error, "ended within AGENT_SETTLE")
	require.Equal(t, "v0", n.read("omflow/app.py"))
	_, err := os.Stat(n.cfg.Home + "/falls-over")
	require.ErrorIs(t, err, os.ErrNotExist)
}
