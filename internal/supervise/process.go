package supervise

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/rs/zerolog"
)

// outputWait is how long the output of a group is read after its end: something that left the group may hold the pipe.
const outputWait = time.Second

var errUnkillable = errors.New("it did not end even when it was killed")

// process is one run of a child, with everything that it starts.
type process struct {
	pid       int
	group     group
	err       error // of the leader; read it after done
	endStrays func() int
	strays    int           // processes that it left outside of its group; read it after done
	done      chan struct{} // closed when the leader, its group and its strays have ended and their output is logged
}

// startProcess starts the command and returns when it runs.
func startProcess(spec Spec, log zerolog.Logger) (*process, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	cmd := exec.Command(spec.Command[0], spec.Command[1:]...)
	cmd.Dir, cmd.Env = spec.Dir, marked(spec.Env, spec.Owner, spec.Name)
	cmd.Stdout, cmd.Stderr = in, in // files, so Wait waits for the process and not for whoever inherited its output

	p := &process{done: make(chan struct{}), endStrays: func() int { return endStrays(spec.Owner, spec.Name, log) }}
	started := make(chan error)
	go p.run(cmd, in, out, func() { logLines(out, spec.Output, log, spec.heard) }, started)
	if err := <-started; err != nil {
		_ = out.Close()
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	return p, nil
}

// run lives as long as the child, on one thread: the kernel's "parent died" signal is bound to the thread that forked, so that
// thread must not end before the child.
func (p *process) run(cmd *exec.Cmd, in, out *os.File, read func(), started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	prepareGroup(cmd)
	err := cmd.Start()
	_ = in.Close()
	if err != nil {
		started <- err
		return
	}
	p.pid = cmd.Process.Pid
	p.group = openGroup(cmd.Process)
	started <- nil

	logged := make(chan struct{})
	go func() { defer close(logged); read() }()
	p.err = cmd.Wait()
	p.group.finish() // what the leader left behind would run beside its successor
	p.strays = p.endStrays()
	select {
	case <-logged:
	case <-time.After(outputWait):
	}
	_ = out.Close()
	<-logged
	close(p.done)
}

// stop asks the leader to end, and kills the whole group if that takes longer than timeout. Only the leader is asked: a worker
// lets its runners finish their steps.
func (p *process) stop(timeout time.Duration) error {
	if p.group.ask() == nil && p.ended(timeout) {
		return nil
	}
	p.group.kill()
	if !p.ended(killWait) {
		return errUnkillable
	}
	return nil
}

func (p *process) ended(timeout time.Duration) bool {
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case <-p.done:
		return true
	case <-t.C:
		return false
	}
}

// cause says how the process ended by itself.
func (p *process) cause() error {
	err := p.err
	if err == nil {
		err = errors.New("exit status 0")
	}
	if p.strays > 0 {
		err = fmt.Errorf("%w; it left %d processes running in the background, which were ended: its command must stay in the foreground", err, p.strays)
	}
	return err
}
