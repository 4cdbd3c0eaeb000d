package agent

import (
	"context"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// restarter stops and starts server and worker around a change of the home's files, as far as a patch wants it.
type restarter struct {
	processes

	log zerolog.Logger
}

// processes are the server and the worker.
type processes interface {
	start(ctx context.Context) error
	startServer(ctx context.Context) error
	startWorker()
	checkServer(ctx context.Context) error
	settle(ctx context.Context) error
	isUp() bool
	stopWorker() error
	stopAll() error
}

func newRestarter(p processes, log zerolog.Logger) (*restarter, error) {
	return complete(&restarter{processes: p, log: log})
}

// stop stops what a patch wants stopped before its files change.
func (r *restarter) stop(hooks patch.Hooks) error {
	switch hooks.Restarted() {
	case patch.RestartNone:
		return nil
	case patch.RestartRunners:
		return r.stopWorker()
	default:
		return r.stopAll()
	}
}

// prove shows that the server is healthy on a home that was switched, as far as the patch concerns it.
func (r *restarter) prove(ctx context.Context, hooks patch.Hooks) error {
	switch hooks.Restarted() {
	case patch.RestartNone:
		if r.isUp() {
			return nil
		}
		if err := r.start(ctx); err != nil && ctx.Err() == nil { // an earlier life has switched; nothing of the server depends on it
			r.log.Error().Err(err).Msg("server not healthy; going on")
		}
		return ctx.Err()
	case patch.RestartRunners:
		if err := r.checkServer(ctx); err != nil {
			return err
		}
	default:
		if err := r.startServer(ctx); err != nil {
			return err
		}
	}
	return r.settle(ctx)
}
