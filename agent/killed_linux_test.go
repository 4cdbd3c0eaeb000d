package agent

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bustest"
)

// An agent that is killed takes server and worker with it, and the next one starts one of each.
func TestKilledAgentTakesItsChildrenDown(t *testing.T) {
	t.Parallel()
	n := newNode(t, bustest.New(t, bustest.Layout()), "srv1")
	cmd := exec.Command(os.Args[0], "agent")
	cmd.Env = append(os.Environ(), "OMFLOW_HOME="+n.cfg.Home, "OMFLOW_COMMAND="+n.cfg.Command, "OMFLOW_HEALTH_URL="+n.cfg.HealthURL,
		"AGENT_DATA_DIR="+n.cfg.DataDir, "BOOSTER_PORT="+strconv.Itoa(n.cfg.Port), "AGENT_HEALTH_INTERVAL=20ms",
		"TEST_WORKER="+os.Args[0]+" worker "+n.dir)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	n.eventually(func() bool { return n.count("worker-start") == 1 }, "worker runs")
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()

	n.start() // at once: it waits for what is still ending
	n.eventually(func() bool { return n.count("worker-start") == 2 }, "worker runs again")
	running := map[string]int{}
	for _, e := range n.events() {
		kind, what, _ := strings.Cut(e.what, "-")
		switch what {
		case "start":
			running[kind]++
		case "stop":
			running[kind]--
		}
		require.LessOrEqual(t, running[kind], 1, "two at once: %s", kind)
	}
	require.Equal(t, map[string]int{"server": 1, "worker": 1}, running)
}
