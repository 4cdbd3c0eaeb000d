package runner

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/process"
)

const (
	drainWait = time.Second     // for output that is still in the pipes of a runner that ended
	killWait  = 5 * time.Second // until a killed runner is gone; longer only if it hangs in the kernel
)

// child is one runner that speaks the protocol. Its life: started, ready, then one step at a time, gone.
type child struct {
	name string // runner-1, …
	log  zerolog.Logger
	tail process.Tail // of its standard error since its current step began

	process  *process.Process
	stdin    *os.File
	step     atomic.Pointer[conversation] // the running step, or the last one; nil before the first
	answered atomic.Bool                  // it brought a step to an end, well or not

	ready chan struct{} // closed when its ready message was read
	gone  chan struct{} // closed when it has exited and its output was read to the end

	released chan bool // Execute says here whether the process may be used again

	ending
}

// ending is why a child ends, if we have ended it.
type ending struct {
	mu       sync.Mutex
	fault    string // what it did
	stopping bool   // it was asked to end
}

// start runs the command of cfg as a child. It fails if that cannot be executed; the child may not be ready yet.
func start(cfg Config, name string, log zerolog.Logger) (*child, error) {
	r := &child{
		name:     name,
		ready:    make(chan struct{}),
		gone:     make(chan struct{}),
		released: make(chan bool, 1),
	}
	cmd := exec.Command(cfg.Command[0], cfg.Command[1:]...)
	cmd.Dir, cmd.Env = cfg.Dir, append(os.Environ(), cfg.Env...)
	stdout, stderr, err := r.launch(cmd)
	if err != nil {
		return nil, err
	}
	r.log = log.With().Str(logging.Child, name).Int(logging.PID, r.process.PID()).Logger()
	go r.own(stdout, stderr)
	return r, nil
}

// own reads the output of the child until the child has ended and its output with it.
func (r *child) own(stdout, stderr *os.File) {
	var readers sync.WaitGroup
	readers.Go(func() { r.readStdout(stdout) })
	readers.Go(func() { r.readStderr(stderr) })

	<-r.process.Done() // the group, too: what the child left behind has been killed
	_ = r.stdin.Close()
	// A process that left the group may still hold the pipes: read what is there, then stop reading.
	soon := time.Now().Add(drainWait)
	_ = stdout.SetReadDeadline(soon)
	_ = stderr.SetReadDeadline(soon)
	readers.Wait()
	_ = stdout.Close()
	_ = stderr.Close()
	close(r.gone)
}

// launch makes the pipes and starts the child. They are our own, not those of os/exec, because its Wait closes them
// with the last lines unread. All ends are close-on-exec: a runner never holds another one's standard input open.
func (r *child) launch(cmd *exec.Cmd) (stdout, stderr *os.File, err error) {
	var ours, theirs []*os.File
	defer func() {
		closeAll(theirs)
		if err != nil {
			closeAll(ours)
		}
	}()
	for range 3 {
		read, write, err := os.Pipe()
		if err != nil {
			return nil, nil, fmt.Errorf("make pipe: %w", err)
		}
		if len(ours) == 0 { // standard input flows the other way
			read, write = write, read
		}
		ours, theirs = append(ours, read), append(theirs, write)
	}
	r.stdin = ours[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs[0], theirs[1], theirs[2]
	// The runner ends when its standard input does, so nobody asks it in another way.
	if r.process, err = process.Start(cmd, process.Options{KillOnly: true}); err != nil {
		return nil, nil, err
	}
	return ours[1], ours[2], nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// kill ends the child and everything that it started. Closing its standard input also ends a write of ours that it
// never read.
func (r *child) kill() {
	r.process.Kill()
	_ = r.stdin.Close()
}

// fail kills the child for something that it did.
func (r *child) fail(fault string) {
	r.mu.Lock()
	if r.fault == "" {
		r.fault = fault
	}
	r.mu.Unlock()
	r.kill()
}

// stop asks the child to end by closing its standard input, and kills it after timeout.
func (r *child) stop(timeout time.Duration) {
	r.mu.Lock()
	r.stopping = true
	r.mu.Unlock()
	_ = r.stdin.Close()
	if r.waitGone(timeout) {
		return
	}
	r.log.Warn().Dur("after", timeout).Msg("runner did not end when its standard input was closed; killing it")
	r.kill()
	if !r.waitGone(killWait) {
		r.log.Error().Msg("runner hangs in the kernel and cannot be killed; leaving it behind")
	}
}

func (r *child) waitGone(timeout time.Duration) bool {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-r.gone:
		return true
	case <-timer.C:
		return false
	}
}

func (r *child) isGone() bool {
	select {
	case <-r.gone:
		return true
	default:
		return false
	}
}

// send writes one line. It may block on a child that does not read; kill ends that. A child that is gone is an error.
func (r *child) send(line []byte) (written int, err error) { return r.stdin.Write(line) }

// greeted takes the ready message.
func (r *child) greeted(m message) {
	select {
	case <-r.ready:
		r.event(zerolog.WarnLevel).Msg("runner says ready twice; ignored")
	default:
		if m.Protocol != protocolVersion {
			r.fail(fmt.Sprintf("speaks protocol %d, this worker speaks %d", m.Protocol, protocolVersion))
			return
		}
		r.log.Info().Str("runner", m.Name).Msg("runner is ready")
		close(r.ready)
	}
}

// end says how the child went. Only after gone.
func (r *child) end() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fault != "" {
		return fmt.Errorf("%s %s and was killed%s", r.name, r.fault, r.lastWords())
	}
	return errors.New(r.name + " ended: " + r.process.State().String() + r.lastWords())
}

func (r *child) isStopping() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stopping
}
