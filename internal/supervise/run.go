package supervise

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/process"
)

// groupGrace is how long the rest of a group has after its leader has ended: what the leader left behind would run beside its successor.
const groupGrace = 2 * time.Second

// outputWait is how long the output of a group is read after its end: something that left the group may hold the pipe.
const outputWait = time.Second

var errUnkillable = errors.New("it did not end even when it was killed")

// run is one run of a child, with everything that it starts.
type run struct {
	*process.Process
	strays int           // processes that it left outside of its group; read it after done
	done   chan struct{} // closed when the leader, its group and its strays have ended and their output is logged
}

// startRun starts the command and returns when it runs.
func startRun(spec Spec, log zerolog.Logger) (*run, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	cmd := exec.Command(spec.Command[0], spec.Command[1:]...)
	cmd.Dir, cmd.Env = spec.Dir, marked(spec.Env, spec.Owner, spec.Name)
	cmd.Stdout, cmd.Stderr = in, in // files, so Wait waits for the process and not for those that inherited its output

	started, err := process.Start(cmd, process.Options{Grace: groupGrace})
	_ = in.Close()
	if err != nil {
		_ = out.Close()
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	r := &run{Process: started, done: make(chan struct{})}
	go r.finish(spec, out, log)
	return r, nil
}

// finish logs the output, waits for the end of the group, and ends what has left the group.
func (r *run) finish(spec Spec, out *os.File, log zerolog.Logger) {
	logged := make(chan struct{})
	go func() { defer close(logged); logLines(out, spec.Output, log, spec.heard) }()
	<-r.Done()
	r.strays = endStrays(spec.Owner, spec.Name, log)
	select {
	case <-logged:
	case <-time.After(outputWait):
	}
	_ = out.Close()
	<-logged
	close(r.done)
}

// stop asks the leader to end, and kills the whole group if that takes longer than timeout. Only the leader is asked: a worker
// lets its runners finish their steps.
func (r *run) stop(timeout time.Duration) error {
	if r.Ask() == nil && r.ended(timeout) {
		return nil
	}
	r.Kill()
	if !r.ended(killWait) {
		return errUnkillable
	}
	return nil
}

func (r *run) ended(timeout time.Duration) bool {
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case <-r.done:
		return true
	case <-t.C:
		return false
	}
}

// explain adds to the way in which a child has ended what it said last, which mostly is why.
func explain(cause error, lines []string) error {
	if len(lines) == 0 {
		return cause
	}
	return fmt.Errorf("%w; its last line: %s", cause, message(lines[len(lines)-1]))
}

// cause says how the process ended by itself.
func (r *run) cause() error {
	err := r.Err()
	if err == nil {
		err = errors.New("exit status 0")
	}
	if r.strays > 0 {
		err = fmt.Errorf("%w; it left %d processes running in the background, which were ended: its command must stay in the foreground", err,
			r.strays)
	}
	return err
}
