package supervise

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/leaktest"
)

const (
	timeout = 20 * time.Second
	poll    = 10 * time.Millisecond
	roleVar = "SUPERVISE_TEST_ROLE"
	dirVar  = "SUPERVISE_TEST_DIR" // where the roles leave notes
)

// TestMain lets the test binary play the children, too.
func TestMain(m *testing.M) {
	switch role := os.Getenv(roleVar); role {
	case "":
		_ = os.Setenv("GORACE", "atexit_sleep_ms=0") // for the children: the race detector would delay their end by a second
		leaktest.Main(m)
	case "good":
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		note("started")
		fmt.Println("plain line")
		fmt.Fprintln(os.Stderr, `{"level":"warn","service":"worker","slots":4,"message":"own log line"}`)
		<-term
		note("asked to end")
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		note("started")
		select {}
	case "family": // leaves a stubborn child behind
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), roleVar+"=stubborn")
		_ = child.Start()
		note("started")
		select {}
	case "asks": // and waits for an answer
		fmt.Print("Password: ")
		select {}
	case "leaver": // leaves a child behind that has moved to a session of its own
		leave()
		note("started")
		select {}
	case "daemon": // does the same and ends: nothing is left in the foreground
		leave()
	case "crash":
		note("started")
		if os.Getenv("SUPERVISE_TEST_SAYS") != "" {
			fmt.Println("first")
			fmt.Println(os.Getenv("SUPERVISE_TEST_SAYS"))
		}
		os.Exit(3)
	case "parent": // supervises a good child and a family until it is killed
		parent()
	}
}

func leave() {
	child := exec.Command("setsid", os.Args[0])
	child.Env = append(os.Environ(), roleVar+"=good")
	if err := child.Start(); err != nil {
		panic(err)
	}
	for pid := child.Process.Pid; groupOf(pid) != strconv.Itoa(pid); { // setsid has not left the group yet
		time.Sleep(time.Millisecond)
	}
}

// groupOf is the process group of a process, the third field after its name in /proc/<pid>/stat.
func groupOf(pid int) string {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		panic(err)
	}
	return strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))[2]
}

func parent() {
	ctx := context.Background()
	dir := os.Getenv(dirVar)
	if err := EndLeftovers(ctx, dir, 200*time.Millisecond, zerolog.Nop()); err != nil {
		panic(err)
	}
	for _, role := range []string{"good", "family"} {
		c := New(Spec{
			Name: role, Command: []string{os.Args[0]}, Env: append(os.Environ(), roleVar+"="+role), Owner: dir,
			ReadyEvery: poll, StopTimeout: time.Second, RestartMin: time.Second, RestartMax: time.Minute,
		}, zerolog.Nop())
		c.Start()
		go func() { _ = c.Run(ctx) }()
	}
	select {}
}

// note adds a line "<role> <event> <pid>" to the notes.
func note(event string) {
	f, err := os.OpenFile(filepath.Join(os.Getenv(dirVar), "notes"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(f, "%s %s %d\n", os.Getenv(roleVar), event, os.Getpid())
	_ = f.Close()
}

// notes returns the lines about an event and the process ids in them.
func notes(t *testing.T, dir, event string) (pids []int) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "notes"))
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(t, err)
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, event+" "); ok {
			pid, err := strconv.Atoi(strings.TrimSpace(rest))
			require.NoError(t, err)
			pids = append(pids, pid)
		}
	}
	return pids
}

func alive(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// lines collects a log.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// supervised runs a child of a role until the test ends.
func supervised(t *testing.T, role string, change func(s *Spec)) (c *Child, dir string, log *lines) {
	t.Helper()
	dir, log = t.TempDir(), &lines{}
	spec := Spec{
		Name: role, Command: []string{os.Args[0]}, Dir: dir, Env: append(os.Environ(), roleVar+"="+role, dirVar+"="+dir),
		ReadyEvery: poll, StopTimeout: timeout, RestartMin: poll, RestartMax: time.Minute,
	}
	if change != nil {
		change(&spec)
	}
	c = New(spec, zerolog.New(log))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return c, dir, log
}
