package firstprocess

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const roleVar = "FIRSTPROCESS_TEST_ROLE"

// TestMain lets the test binary be the first process of a container, whose child makes orphans.
func TestMain(m *testing.M) {
	if os.Getenv(roleVar) == "" {
		os.Exit(m.Run())
	}
	if code, was := Run(); was {
		os.Exit(code)
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	for range 20 { // each leaves an orphan that ends soon
		_ = exec.Command("/bin/sh", "-c", "sleep 0.1 & ").Run()
	}
	fmt.Println("orphans made")
	<-term
	os.Exit(7)
}

// zombies counts the processes below a process that have ended and were not fetched, and all of them.
func zombies(t *testing.T, parent int) (dead, all int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	for _, name := range stats {
		data, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
		if fields[1] != strconv.Itoa(parent) {
			continue
		}
		all++
		if fields[0] == "Z" {
			dead++
		}
	}
	return dead, all
}

func TestFirstProcessFetchesOrphansAndPassesSignalsOn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make a process namespace")
	}
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVar+"=first")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "orphans made\n", line)
	require.Eventually(t, func() bool {
		dead, all := zombies(t, cmd.Process.Pid)
		return dead == 0 && all == 1
	}, time.Minute, 20*time.Millisecond, "all but the program are gone")
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	_ = cmd.Wait()
	require.Equal(t, 7, cmd.ProcessState.ExitCode(), "the program's own exit code")
}
