package supervise

import (
	"context"
	"fmt"
	"sync"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/logging"
)

// What is kept of the output of a command for the message about its failure.
const (
	tailLines = 5
	tailWidth = 200 // bytes of a line
)

// Once runs a command to its end with all that a Child has, its group and its mark among them. It fails if the command cannot be started or does not
// exit with 0. When ctx ends, the command is stopped as a Child is, and the error is the cause. last are the last lines of its output.
func Once(ctx context.Context, spec Spec, log zerolog.Logger) (last []string, err error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	log = log.With().Str(logging.Child, spec.Name).Logger()
	var t tail
	spec.heard = t.add
	p, err := startProcess(spec, log)
	if err != nil {
		return nil, err
	}
	log.Info().Int(logging.PID, p.pid).Strs("command", spec.Command).Msg("command started")
	select {
	case <-p.done:
		return t.get(), p.err
	case <-ctx.Done():
	}
	log.Info().Int(logging.PID, p.pid).Msg("stopping command")
	if err := p.stop(spec.StopTimeout); err != nil {
		return t.get(), fmt.Errorf("%w; stop %s (pid %d): %w", context.Cause(ctx), spec.Name, p.pid, err)
	}
	return t.get(), context.Cause(ctx)
}

// tail is the end of an output.
type tail struct {
	mu    sync.Mutex // a process that cannot be ended may still write
	lines []string
}

func (t *tail) add(line string) {
	if len(line) > tailWidth {
		line = line[:tailWidth] + "…"
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, line)
	if len(t.lines) > tailLines {
		t.lines = t.lines[1:]
	}
}

func (t *tail) get() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.lines...)
}
