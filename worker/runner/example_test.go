package runner

import (
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const example = "../../configs/runner_example.py"

// exampleConfig runs configs/runner_example.py.
func exampleConfig(t testing.TB) Config {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("SKIPPED: no python3, the example runner is not tested")
	}
	return Config{Command: []string{python, example}, Size: 1, StepTimeout: time.Minute}
}

func TestExampleRunner(t *testing.T) {
	t.Parallel()
	p, log, stop := startPool(t, exampleConfig(t))
	began := time.Now()
	require.NoError(t, p.Execute(t.Context(), newStep("main", map[string]any{"sleep": 0.1})))
	require.GreaterOrEqual(t, time.Since(began), 100*time.Millisecond)
	require.NoError(t, p.Execute(t.Context(), newStep("main", `{"sleep": 0}`)), "parameters as JSON text")
	require.EqualError(t, p.Execute(t.Context(), newStep("main", map[string]any{"fail": "no such form"})), "ValueError: no such form")
	stop()
	require.Contains(t, log.String(), "running test.main(")
	require.NotContains(t, log.String(), "killing it")
}
