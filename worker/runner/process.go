package runner

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/logging"
)

const (
	drainWait = time.Second     // for output that is still in the pipes of a runner that ended
	killWait  = 5 * time.Second // until a killed runner is gone; longer only if it hangs in the kernel
)

// process is one child that speaks the protocol. Its life: started, ready, then one step at a time, gone.
type process struct {
	name string // runner-1, …
	cmd  *exec.Cmd
	log  zerolog.Logger
	tail tail

	stdin    *os.File
	step     atomic.Pointer[conversation] // the running step, or the last one; nil before the first
	answered atomic.Bool                  // it brought a step to an end, well or not

	ready chan struct{} // closed when its ready message was read
	gone  chan struct{} // closed when it has exited and its output was read to the end; exit is valid then
	exit  string

	released chan bool // Execute says here whether the process may be used again

	mu       sync.Mutex
	group    *group // nil once the child was reaped: its process id may belong to somebody else now
	fault    string // why we killed it, if for what it did
	stopping bool
}

// start runs the command of cfg as a child. It fails if that cannot be executed; the child may not be ready yet.
func start(cfg Config, name string, log zerolog.Logger) (*process, error) {
	r := &process{
		name:     name,
		cmd:      exec.Command(cfg.Command[0], cfg.Command[1:]...),
		ready:    make(chan struct{}),
		gone:     make(chan struct{}),
		released: make(chan bool, 1),
	}
	r.cmd.Dir = cfg.Dir
	r.cmd.Env = append(os.Environ(), cfg.Env...)
	setGroup(r.cmd)
	started := make(chan error)
	go r.own(log.With().Str(logging.Child, name).Logger(), started)
	return r, <-started
}

// own starts the child, waits for its end and for the end of its output. All in one locked OS thread: on Linux the
// child is killed when the thread that forked it ends, and Go ends threads as it likes unless they are held.
func (r *process) own(log zerolog.Logger, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	stdout, stderr, err := r.launch()
	if err != nil {
		started <- err
		return
	}
	r.log = log.With().Int(logging.PID, r.cmd.Process.Pid).Logger()
	var readers sync.WaitGroup
	readers.Go(func() { r.readStdout(stdout) })
	readers.Go(func() { r.readStderr(stderr) })
	started <- nil

	_ = r.cmd.Wait() // the exit status is in ProcessState
	r.reaped()
	// Whoever left the group may still hold the pipes: read what is there, then stop reading.
	soon := time.Now().Add(drainWait)
	_ = stdout.SetReadDeadline(soon)
	_ = stderr.SetReadDeadline(soon)
	readers.Wait()
	_ = stdout.Close()
	_ = stderr.Close()
	r.exit = r.cmd.ProcessState.String()
	close(r.gone)
}

// launch makes the pipes and starts the child. They are our own, not those of os/exec, because its Wait closes them
// with the last lines unread. All ends are close-on-exec: a runner never holds another one's standard input open.
func (r *process) launch() (stdout, stderr *os.File, err error) {
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
	r.cmd.Stdin, r.cmd.Stdout, r.cmd.Stderr = theirs[0], theirs[1], theirs[2]
	if err := r.cmd.Start(); err != nil {
		return nil, nil, err
	}
	if r.group, err = groupOf(r.cmd); err != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		return nil, nil, err
	}
	return ours[1], ours[2], nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// reaped ends what the child left behind, and makes sure that nobody signals its process id again.
func (r *process) reaped() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.group.kill() // the kernel keeps the id from being used again while the group has members
	r.group.close()
	r.group = nil
	_ = r.stdin.Close()
}

// kill ends the child and everything that it started. Closing its standard input also ends a write of ours that it
// never read.
func (r *process) kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.group != nil {
		r.group.kill()
		_ = r.stdin.Close()
	}
}

// fail kills the child for something that it did.
func (r *process) fail(fault string) {
	r.mu.Lock()
	if r.fault == "" {
		r.fault = fault
	}
	r.mu.Unlock()
	r.kill()
}

// stop asks the child to end by closing its standard input, and kills it after patience.
func (r *process) stop(patience time.Duration) {
	r.mu.Lock()
	r.stopping = true
	r.mu.Unlock()
	_ = r.stdin.Close()
	if r.waitGone(patience) {
		return
	}
	r.log.Warn().Dur("after", patience).Msg("runner did not end when its standard input was closed; killing it")
	r.kill()
	if !r.waitGone(killWait) {
		r.log.Error().Msg("runner hangs in the kernel and cannot be killed; leaving it behind")
	}
}

func (r *process) waitGone(patience time.Duration) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-r.gone:
		return true
	case <-timer.C:
		return false
	}
}

func (r *process) isGone() bool {
	select {
	case <-r.gone:
		return true
	default:
		return false
	}
}

// send writes one line. It may block on a child that does not read; kill ends that. A child that is gone is an error.
func (r *process) send(line []byte) (written int, err error) { return r.stdin.Write(line) }

// greeted takes the ready message.
func (r *process) greeted(m message) {
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
func (r *process) end() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fault != "" {
		return fmt.Errorf("%s %s and was killed%s", r.name, r.fault, &r.tail)
	}
	return errors.New(r.name + " ended: " + r.exit + r.tail.String())
}

func (r *process) isStopping() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stopping
}
