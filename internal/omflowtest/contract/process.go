package contract

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/leaktest"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
)

const (
	programEnv = "OMFLOWTEST_PROGRAM" // the test binary is started again with it, and is the stand-in then
	timeout    = 30 * time.Second     // for anything that a process is waited for
)

// Main is the TestMain of a package that runs the contract: the test binary is also the stand-in that it tests.
func Main(m *testing.M, engines ...sqldb.Engine) {
	if command := os.Getenv(programEnv); command != "" {
		os.Exit(omflowtest.Program{ //nolint:revive // this is the main of a test binary
			Engines: engines, Exit: os.Exit, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		}.Main([]string{command}))
	}
	leaktest.Main(m)
}

// program prepares the stand-in as a real process. It is killed at the end of the test if it lives then.
func program(t *testing.T, command, databaseURL string, env ...string) *exec.Cmd {
	self, err := os.Executable()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), programEnv+"="+command, "DATABASE_URL="+databaseURL, "LOG_LEVEL=error")
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = os.Stderr
	return cmd
}

// requireCrash waits for a process that was to die on purpose.
func requireCrash(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	var exit *exec.ExitError
	require.ErrorAs(t, errors.Join(cmd.Wait()), &exit)
	require.Equal(t, omflowtest.CrashExit, exit.ExitCode())
}
