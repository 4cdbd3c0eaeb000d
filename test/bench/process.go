package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const (
	startTimeout = time.Minute // until a service answers
	stopTimeout  = 20 * time.Second
	pollEvery    = 10 * time.Millisecond
	lastLines    = 15 // of a service's output that an error shows
)

// command is a program to start.
type command struct {
	name  string
	dir   string              // where its output goes, and where it runs
	env   []string            // besides PATH, HOME and TMPDIR
	user  *syscall.Credential // nil: ours
	limit *cgroup             // nil: none
	stop  syscall.Signal      // asks it to end; 0: SIGTERM
	argv  []string
}

// process is a running service. It is ended by its own process id, and by the kernel if the benchmark dies.
type process struct {
	command
	cmd   *exec.Cmd
	ended chan struct{}
}

func (c command) start() (*process, error) {
	if c.stop == 0 {
		c.stop = syscall.SIGTERM
	}
	out, err := os.OpenFile(c.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }() // the process has its own
	argv := c.argv
	if c.limit != nil {
		argv = c.limit.within(argv)
	}
	p := &process{command: c, cmd: exec.Command(argv[0], argv[1:]...), ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = c.dir, out, out
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			p.cmd.Env = append(p.cmd.Env, name+"="+value)
		}
	}
	p.cmd.Env = append(p.cmd.Env, c.env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: c.stop, Credential: c.user}
	started := make(chan error, 1)
	go func() {
		// The kernel sends the death signal when the thread ends that has forked, so the thread stays as long as the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // an early end shows in ready
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	return p, nil
}

func (c command) log() string { return filepath.Join(c.dir, c.name+".log") }

func (p *process) pid() int { return p.cmd.Process.Pid }

// ready waits until check succeeds.
func (p *process) ready(ctx context.Context, check func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	last := errors.New("not asked yet")
	for {
		if err := check(ctx); err == nil {
			return nil
		} else if ctx.Err() == nil {
			last = err
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended before it was ready:\n%s", p.name, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", p.name, last, p.tail())
		case <-time.After(pollEvery):
		}
	}
}

// tail is the end of the output.
func (p *process) tail() string {
	out, _ := os.ReadFile(p.log()) // nothing to show then
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-lastLines):], "\n")
}

// end asks the process to end and kills what does not.
func (p *process) end() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Signal(p.stop) // it has ended already
	select {
	case <-p.ended:
	case <-time.After(stopTimeout):
		_ = syscall.Kill(-p.pid(), syscall.SIGKILL)
		<-p.ended
	}
}
