package runner

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/logging"
)

const (
	readBuffer  = 64 << 10
	maxLogLine  = 8 << 10 // a printed line is cut here in the log
	tailLines   = 5       // last lines of standard error that an error repeats …
	maxTailLine = 300     // … and how much of each
	exitGrace   = 2 * time.Second
)

// readStdout takes messages and logs everything else, until the runner's standard output ends.
func (r *process) readStdout(f *os.File) {
	in := bufio.NewReaderSize(f, readBuffer)
	for {
		line, err := readLine(in, maxLine)
		switch {
		case err == nil:
			r.receive(line)
		case errors.Is(err, errLineTooLong):
			// Not ignored like a print: it may be a message whose answer the runner waits for.
			r.fail(fmt.Sprintf("wrote a line of more than %d MiB", maxLine>>20))
			return
		default: // cut off: no message
			if len(line) > 0 {
				r.logLine("stdout", line)
			}
			// A runner that cannot speak any more is of no use; most likely it is just exiting.
			time.AfterFunc(exitGrace, r.kill)
			return
		}
	}
}

// readStderr logs what user code and the runner itself say, and remembers the last lines for the error of a crash.
func (r *process) readStderr(f *os.File) {
	in := bufio.NewReaderSize(f, readBuffer)
	for {
		line, err := readLine(in, maxLogLine)
		if len(line) > 0 {
			r.tail.add(line)
			r.logLine("stderr", line)
		}
		if err != nil && !errors.Is(err, errLineTooLong) { // the rest of a long line is a line of its own
			return
		}
	}
}

func (r *process) receive(line []byte) {
	m, ok, err := decode(line)
	switch {
	case !ok:
		if len(line) > 0 {
			r.logLine("stdout", line)
		}
	case err != nil:
		r.fail("broke the protocol (" + err.Error() + ")")
	case m.Op == opReady:
		r.greeted(m)
	case m.Op == opPut, m.Op == opDone, m.Op == opFailed:
		if c := r.step.Load(); c != nil && c.id == m.ID && c.deliver(m) {
			return
		}
		r.log.Warn().Str("op", m.Op).Str(logging.Work, m.ID).Msg("message for a step that is not running; ignored")
	default:
		r.event(zerolog.WarnLevel).Str("op", m.Op).Msg("unknown message from the runner; ignored")
	}
}

// event starts a log line about the runner, tied to the step that it runs or, between steps, to the one that it ran
// last: what a step prints may be read a moment after its answer.
func (r *process) event(level zerolog.Level) *zerolog.Event {
	e := r.log.WithLevel(level)
	if c := r.step.Load(); c != nil {
		e = e.Str(logging.Work, c.id)
	}
	return e
}

func (r *process) logLine(stream string, line []byte) {
	r.event(zerolog.InfoLevel).Str("stream", stream).Msg(cut(strings.TrimRight(string(line), "\r"), maxLogLine))
}

// tail is the last lines of a runner's standard error since its current step began.
type tail struct {
	mu    sync.Mutex
	lines []string
}

func (t *tail) add(line []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == tailLines {
		t.lines = append(t.lines[:0], t.lines[1:]...)
	}
	t.lines = append(t.lines, cut(strings.TrimSpace(string(line)), maxTailLine))
}

func (t *tail) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = nil
}

// String is a phrase to append to an error, or empty.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == 0 {
		return ""
	}
	return "; last on standard error: " + strings.Join(t.lines, " | ")
}

// cut shortens s to at most limit bytes of valid UTF-8.
func cut(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	return strings.ToValidUTF8(s, "")
}
