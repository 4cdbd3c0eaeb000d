// Package process starts child processes and ends them together with everything that they started.
//
// A child leads a process group of its own (on Windows: a job object of its own), so a signal that is meant for this process
// does not reach it. It does not outlive this process, however this process ends: on Linux the kernel signals the child, on
// Windows the system ends the job with its last handle.
package process

import (
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

// Options say how a child ends.
type Options struct {
	// KillOnly is for a child that handles no request to end: when this process ends, the kernel kills it instead of asking, even
	// if it is frozen. On Windows it has no console, so Ask does not reach it.
	KillOnly bool

	// Grace is how long the rest of the group has to end after its leader has ended. With 0 the rest is killed at once.
	Grace time.Duration
}

// Process is a child that was started, with everything that it starts. Its methods may be called from anywhere.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait; valid after done

	mu    sync.Mutex
	group group
	over  bool // the group has ended: its number may belong to somebody else now
}

// Start starts cmd and returns when it runs. It sets cmd.SysProcAttr; the other fields are the caller's.
func Start(cmd *exec.Cmd, o Options) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go p.own(o, started)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// own lives as long as the child, on one thread. The kernel's "parent died" signal is bound to the thread that forked. Go ends
// threads as it likes unless they are locked, so an unlocked thread could end before the child.
func (p *Process) own(o Options, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	setGroup(p.cmd, o)
	err := p.cmd.Start()
	if err != nil {
		started <- err
		return
	}
	if p.group, err = openGroup(p.cmd.Process); err != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		started <- err
		return
	}
	started <- nil

	p.err = p.cmd.Wait()
	p.endRest(o.Grace)
	close(p.done)
}

// PID returns the process id of the child.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done returns a channel that is closed when the child and its group have ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err returns what exec.Cmd.Wait returned. Call it after Done.
func (p *Process) Err() error { return p.err }

// State returns how the child exited. Call it after Done.
func (p *Process) State() *os.ProcessState { return p.cmd.ProcessState }

// Ask requests the child to end; the rest of its group is not asked. It fails on Windows without a console, as in a service:
// then only Kill ends the child.
func (p *Process) Ask() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return nil
	}
	return p.group.ask()
}

// Kill ends the child and its group, members that are stopped (SIGSTOP) included. It does nothing once they have ended.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over {
		p.group.kill()
	}
}

// endRest ends what the child left behind in its group. The number of the group stays taken as long as one member lives, and
// nobody signals it afterwards.
func (p *Process) endRest(grace time.Duration) {
	if grace > 0 {
		p.group.askRest()
		for end := time.Now().Add(grace); time.Now().Before(end) && p.group.hasRest(); {
			time.Sleep(20 * time.Millisecond)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.group.kill()
	p.group.close()
	p.over = true
}
