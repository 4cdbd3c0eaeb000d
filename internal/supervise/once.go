package supervise

import (
	"context"
	"fmt"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/process"
)

// Once runs a command to its end with all that a Child has, its group and its mark among them. It fails if the command cannot
// be started or does not exit with 0. When ctx ends, the command is stopped as a Child is, and the error is the cause. last are
// the last lines of its output.
func Once(ctx context.Context, spec Spec, log zerolog.Logger) (last []string, err error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	log = log.With().Str(logging.Child, spec.Name).Logger()
	var t process.Tail
	spec.heard = t.Add
	r, err := startRun(spec, log)
	if err != nil {
		return nil, err
	}
	log.Info().Int(logging.PID, r.PID()).Strs("command", spec.Command).Msg("command started")
	select {
	case <-r.done:
		return t.Lines(), r.Err()
	case <-ctx.Done():
	}
	log.Info().Int(logging.PID, r.PID()).Msg("stopping command")
	if err := r.stop(spec.StopTimeout); err != nil {
		return t.Lines(), fmt.Errorf("%w; stop %s (pid %d): %w", context.Cause(ctx), spec.Name, r.PID(), err)
	}
	return t.Lines(), context.Cause(ctx)
}
