//go:build unix

package process

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const timeout = time.Minute

// shell starts a script and returns its first line of output.
func shell(t *testing.T, script string, o Options) (p *Process, said string) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script)
	out, in, err := os.Pipe() // not StdoutPipe: Wait would close it before it is read
	require.NoError(t, err)
	t.Cleanup(func() { _ = out.Close() })
	cmd.Stdout = in
	p, err = Start(cmd, o)
	_ = in.Close()
	require.NoError(t, err)
	t.Cleanup(p.Kill)
	said, err = bufio.NewReader(out).ReadString('\n')
	if !errors.Is(err, io.EOF) {
		require.NoError(t, err)
	}
	return p, strings.TrimSpace(said)
}

func awaitDone(t *testing.T, p *Process) {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(timeout):
		t.Fatal("the child has not ended")
	}
}

func TestChildIsAskedToEnd(t *testing.T) {
	t.Parallel()
	p, _ := shell(t, "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done", Options{Grace: timeout})
	require.NoError(t, p.Ask())
	awaitDone(t, p)
	require.Equal(t, 7, p.State().ExitCode())
	require.EqualError(t, p.Err(), "exit status 7")
	require.NoError(t, p.Ask(), "it has ended already")
	p.Kill()
}

func TestKillEndsTheWholeGroup(t *testing.T) {
	t.Parallel()
	// The second shell is in the group, ignores the request to end and is stopped.
	p, _ := shell(t, "sh -c 'trap \"\" TERM; kill -STOP $$' & echo ready; trap '' TERM; wait; while :; do sleep 1; done",
		Options{KillOnly: true})
	p.Kill()
	awaitDone(t, p)
	require.EqualError(t, p.Err(), "signal: killed")
	gone := func() bool { return syscall.Kill(-p.PID(), 0) != nil }
	require.Eventually(t, gone, timeout, 10*time.Millisecond)
}

func TestRestOfTheGroupHasItsGrace(t *testing.T) {
	t.Parallel()
	polite := "sh -c 'trap \"exit\" TERM; echo ready; while :; do sleep 0.01; done' & exec sleep 0.5"
	p, _ := shell(t, polite, Options{Grace: timeout})
	awaitDone(t, p) // long before its grace has passed
	require.NoError(t, p.Err())

	rude := "sh -c 'trap \"\" TERM; echo ready; while :; do sleep 0.01; done' & exec sleep 0.5"
	p, _ = shell(t, rude, Options{Grace: 50 * time.Millisecond})
	awaitDone(t, p)
	require.Eventually(t, func() bool { return syscall.Kill(-p.PID(), 0) != nil }, timeout, 10*time.Millisecond)
}

func TestCommandThatCannotBeStarted(t *testing.T) {
	t.Parallel()
	_, err := Start(exec.Command("/no/such/program"), Options{})
	require.ErrorContains(t, err, "no such file")
}
