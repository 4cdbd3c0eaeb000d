package runner

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/process"
)

const (
	readBuffer = 64 << 10
	maxLogLine = 8 << 10 // a printed line is cut here in the log
	exitGrace  = 2 * time.Second
)

// readStdout takes messages and logs everything else, until the runner's standard output ends.
func (r *child) readStdout(f *os.File) {
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
func (r *child) readStderr(f *os.File) {
	in := bufio.NewReaderSize(f, readBuffer)
	for {
		line, err := readLine(in, maxLogLine)
		if len(line) > 0 {
			r.tail.Add(strings.TrimSpace(string(line)))
			r.logLine("stderr", line)
		}
		if err != nil && !errors.Is(err, errLineTooLong) { // the rest of a long line is a line of its own
			return
		}
	}
}

func (r *child) receive(line []byte) {
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
func (r *child) event(level zerolog.Level) *zerolog.Event {
	e := r.log.WithLevel(level)
	if c := r.step.Load(); c != nil {
		e = e.Str(logging.Work, c.id)
	}
	return e
}

func (r *child) logLine(stream string, line []byte) {
	r.event(zerolog.InfoLevel).Str("stream", stream).Msg(process.Cut(strings.TrimRight(string(line), "\r"), maxLogLine))
}

// lastWords is a phrase to append to an error: the last lines of standard error. It is empty if there are none.
func (r *child) lastWords() string {
	lines := r.tail.Lines()
	if len(lines) == 0 {
		return ""
	}
	return "; last on standard error: " + strings.Join(lines, " | ")
}
