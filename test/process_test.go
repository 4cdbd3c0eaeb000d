//go:build linux

package test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

const (
	startTimeout   = time.Minute      // until a process is ready: the race detector and two cores are slow
	commandTimeout = 2 * time.Minute  // until a command for people has ended: one of them waits for elections
	stopTimeout    = 60 * time.Second // until a process has handed over and ended
	childTimeout   = 5 * time.Second  // until a process that was told to end is gone
)

// env is environment variables. A process sees these and PATH, HOME and TMPDIR, nothing else of the tester's own.
type env map[string]string

func environ(vars env) []string {
	list := []string{"GORACE=exitcode=0"} // a race is found in what the process writes, and told from one within a library: see races
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		list = append(list, name+"="+os.Getenv(name))
	}
	for name, value := range vars {
		list = append(list, name+"="+value)
	}
	return list
}

// process is a program that a test starts, ends and starts again. It leads a session, which is how everything that it
// starts is found, even after its own death: to be frozen with it, and ended with the test.
// Its methods fail the test themselves and belong to the goroutine of the test.
type process struct {
	t       testing.TB
	name    string
	program string
	args    []string
	vars    env
	log     string // file with all that its runs wrote

	cmd   *exec.Cmd     // of the latest run
	ended chan struct{} // closed when that run has ended
}

// start runs a program until the test ends.
func start(t testing.TB, name string, vars env, program string, args ...string) *process {
	t.Helper()
	p := prepare(t, name, vars, program, args...)
	p.again()
	return p
}

// prepare is start without the start: again is the first.
func prepare(t testing.TB, name string, vars env, program string, args ...string) *process {
	t.Helper()
	if other := vars[programVar]; other != "" && program == binary {
		program = other
	}
	p := &process{
		t: t, name: name, program: program, args: args, vars: maps.Clone(vars),
		log: filepath.Join(t.TempDir(), "log"),
	}
	t.Cleanup(p.cleanup)
	return p
}

// again starts a program that has ended once more, with the same environment, so with the same data.
func (p *process) again() {
	p.t.Helper()
	if p.running() {
		p.t.Fatalf("%s is running already", p.name)
	}
	out, err := os.OpenFile(p.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = out.Close() }() // the process has its own
	p.cmd = exec.Command(p.program, p.args...)
	if ns := p.vars[netnsVar]; ns != "" {
		p.cmd = exec.Command("ip", append([]string{"netns", "exec", ns, p.program}, p.args...)...) // becomes the program
	}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Env = environ(p.vars)
	// Pdeathsig: when the tests themselves die, on a timeout, cleanups do not run.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
	p.ended = make(chan struct{})
	if err := startAndWait(p.cmd, p.ended); err != nil {
		p.t.Fatalf("start %s: %s", p.name, err)
	}
}

// startAndWait starts a command; ended is closed when it has ended. The kernel sends the death signal when the thread ends that
// has forked, and threads end while a test goes on: those that other tests have taken into a network namespace. So this one is
// kept as long as the process lives.
func startAndWait(cmd *exec.Cmd, ended chan<- struct{}) error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		defer close(ended)
		_ = cmd.Wait() // exitCode tells
	}()
	return <-started
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// kill ends the process, and it alone, without warning.
func (p *process) kill() {
	p.t.Helper()
	p.signal(p.pid(), syscall.SIGKILL)
	p.waitEnd(stopTimeout)
}

// killAll ends the process and everything that it started, as a power cut of its host would.
func (p *process) killAll() {
	p.t.Helper()
	testkit.Await(p.t, startTimeout, "end of "+p.name+" and its children", func(context.Context) error {
		left := p.members() // may start one more while we look
		for _, pid := range left {
			p.signal(pid, syscall.SIGKILL)
		}
		if len(left) > 0 {
			return fmt.Errorf("still there: %v", left)
		}
		return nil
	})
	p.waitEnd(stopTimeout)
}

// freeze stops the clock of the process and of everything that it started, as a suspended host does. It returns when
// nothing of it moves any more.
func (p *process) freeze() {
	p.t.Helper()
	p.freezeEach(p.members)
}

// freezeOnly stops the clock of some processes of the session; the others go on.
func (p *process) freezeOnly(pids ...int) {
	p.t.Helper()
	p.freezeEach(func() []int { return pids })
}

func (p *process) freezeEach(pids func() []int) {
	p.t.Helper()
	testkit.Await(p.t, startTimeout, p.name+" to freeze", func(context.Context) error {
		for _, pid := range pids() {
			if s, ok := stat(pid); ok && s.state != 'T' {
				p.signal(pid, syscall.SIGSTOP)
				return fmt.Errorf("process %d moves", pid)
			}
		}
		return nil
	})
}

// thaw lets everything that is frozen go on.
func (p *process) thaw() {
	p.t.Helper()
	for _, pid := range p.members() {
		p.signal(pid, syscall.SIGCONT)
	}
}

// stop asks the process to end and expects that it does so in time, with exit code 0, and leaves nothing behind.
func (p *process) stop() {
	p.t.Helper()
	p.signal(p.pid(), syscall.SIGTERM)
	if code := p.exitCode(stopTimeout); code != 0 {
		p.t.Errorf("%s ended with code %d after SIGTERM, want 0", p.name, code)
	}
	testkit.Await(p.t, childTimeout, "what "+p.name+" had started to end with it", func(context.Context) error {
		if left := p.members(); len(left) > 0 {
			return fmt.Errorf("still there: %v", left)
		}
		return nil
	})
}

// exitCode waits until the process has ended. It is -1 after a signal.
func (p *process) exitCode(timeout time.Duration) int {
	p.t.Helper()
	p.waitEnd(timeout)
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) waitEnd(timeout time.Duration) {
	p.t.Helper()
	if !p.running() {
		return
	}
	select {
	case <-p.ended:
	case <-time.After(timeout):
		p.t.Fatalf("%s has not ended within %s", p.name, timeout)
	}
}

// ready waits until check succeeds, and fails at once when the process ends before.
func (p *process) ready(check func(ctx context.Context) error) {
	p.t.Helper()
	testkit.Await(p.t, startTimeout, p.name+" to be ready", func(ctx context.Context) error {
		if !p.running() {
			p.t.Fatalf("%s ended with code %d before it was ready", p.name, p.exitCode(0))
		}
		return check(ctx)
	})
}

// output is all that the process has written, in all its runs.
func (p *process) output() string {
	out, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Error(err)
	}
	return string(out)
}

func (p *process) signal(pid int, sig syscall.Signal) {
	p.t.Helper()
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		p.t.Errorf("send %s to process %d of %s: %s", sig, pid, p.name, err)
	}
}

var (
	// Nobody may write these: the runtime of Go.
	broken = regexp.MustCompile(`(?m)^(panic: .*|fatal error: .*)$`)
	// What the race detector writes. Its first two stacks are the two accesses; then come the places where the goroutines were made.
	race = regexp.MustCompile(`(?s)WARNING: DATA RACE\n.*?\n==================`)
	// Thousands of lines about routes and votes.
	serverDebug = regexp.MustCompile(`(?m)^\{"level":"debug"[^\n]*"from":"nats-server"[^\n]*\n`)
	// Before each of the two.
	accessLine = regexp.MustCompile(`^(Previous )?([Rr]ead|[Ww]rite) at `)
)

func (p *process) cleanup() {
	if p.cmd == nil {
		return // it was never started
	}
	p.killAll()
	out := p.output()
	if found := broken.FindString(out); found != "" {
		p.t.Errorf("%s: %s", p.name, found)
	}
	races(p.t, p.name, out)
	if p.t.Failed() {
		p.t.Logf("output of %s, without what the server in a Booster says for debugging:\n%s", p.name,
			lastLines(serverDebug.ReplaceAllString(out, ""), 300))
	}
}

// races fails the test for each race of our code that a process has written, and logs those within libraries.
func races(t testing.TB, name, out string) {
	t.Helper()
	for _, report := range race.FindAllString(out, -1) {
		if ours(report) {
			t.Errorf("%s: %s", name, report)
		} else {
			t.Logf("%s: a race within a library, not ours to mend:\n%s", name, report)
		}
	}
}

// ours tells whether our code made one of the two accesses of a race: in each stack, the first function that is not of Go
// itself. Who called that one, and where its goroutine was made, does not matter.
func ours(report string) bool {
	searching := false
	for line := range strings.Lines(report) {
		switch function, called := strings.CutPrefix(line, "  "); {
		case accessLine.MatchString(line):
			searching = true
		case searching && called && !strings.HasPrefix(function, " "):
			module, _, nested := strings.Cut(function, "/")
			if !nested || !strings.Contains(module, ".") {
				continue // runtime.mapassign(), encoding/json.Marshal()
			}
			searching = false
			if strings.Contains(function, "/omflow-booster/") {
				return true
			}
		}
	}
	return false
}

// members lists the living processes of the session: the process and all that it started, directly or not.
func (p *process) members() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		p.t.Fatal(err)
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if s, ok := stat(pid); ok && s.session == p.pid() && s.state != 'Z' {
			pids = append(pids, pid)
		}
	}
	return pids
}

type procStat struct {
	state   byte // T stopped, Z ended but not waited for; see proc_pid_stat(5)
	session int
}

func stat(pid int) (s procStat, ok bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return s, false // ended meanwhile
	}
	// The name of the program is in brackets and may hold anything: pid (name) state ppid pgrp session …
	_, err = fmt.Sscanf(string(data[strings.LastIndexByte(string(data), ')')+1:]), " %c %d %d %d", &s.state, new(int), new(int), &s.session)
	return s, err == nil
}

func lastLines(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	if len(lines) <= n {
		return text
	}
	return fmt.Sprintf("(%d lines left out)\n", len(lines)-n) + strings.Join(lines[len(lines)-n:], "")
}

// dir is an empty directory with a short path: a Unix socket in it may have 107 bytes.
func dir(t testing.TB) string {
	t.Helper()
	d, err := os.MkdirTemp("", "booster-") //nolint:usetesting // t.TempDir has the name of the test in its path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(d); err != nil {
			t.Error(err)
		}
	})
	return d
}
