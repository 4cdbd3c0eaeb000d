package agent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/config"
)

// A machine that is copied has the name of its agent, too. Both would take each other's orders and be stopped together for a patch.
func TestAgentOfACopiedMachineIsRefused(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	first := newNode(t, b, "台北")
	first.start()
	n := first.state(func(s bus.AgentState) bool { return s.Server == "running" })
	require.NotZero(t, n.ServerPID)

	second := newNode(t, b, "")
	require.NoError(t, os.WriteFile(filepath.Join(second.cfg.DataDir, identityFile), []byte(`{"name":"台北","id":"copied"}`), 0o600))
	a, err := New(second.cfg, Deps{Client: second.client}, zerolog.New(second.log))
	require.NoError(t, err)
	err = a.Run(t.Context())
	var wrong *config.Error
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, "AGENT_DATA_DIR", wrong.Var)
	require.Contains(t, wrong.Problem, "is alive at 127.0.0.1")
	require.Empty(t, second.events(), "it has started nothing")

	require.Equal(t, n.ServerPID, first.state(func(s bus.AgentState) bool { return s.Server == "running" }).ServerPID)
	first.stop()
	first.start() // the same machine, again: no clone of itself
}
