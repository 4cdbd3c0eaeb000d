package agent

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

// migrateGrace is how much longer a hook may be there than it should, besides AGENT_STOP_TIMEOUT: the time until a process that was killed is gone, and
// what the clocks of two hosts differ by.
const migrateGrace = 30 * time.Second

// runHooks does what a patch wants done besides its files, before the server starts on them. Each hook can be done twice: a life of the agent that ended in
// the middle has its successor begin with the first one again. An error says why the patch is to be taken back, unless ctx has ended.
func (f *follower) runHooks(ctx context.Context) error {
	hooks, id := f.journal.Hooks(), f.journal.Report().Patch
	if f.hooked == id { // and only the end of the journal failed
		return nil
	}
	if hooks.Pip != "" {
		err := f.hook(ctx, func(ctx context.Context) error {
			return f.command(ctx, "pip", "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "-r", hooks.Pip)
		})
		if err != nil {
			return fmt.Errorf("hook pip: %w", err)
		}
	}
	if hooks.Migrate {
		if err := f.hook(ctx, f.migrate); err != nil {
			return fmt.Errorf("hook migrate: %w", err)
		}
	}
	f.hooked = id
	return nil
}

// hook gives one hook its time.
func (f *follower) hook(ctx context.Context, run func(ctx context.Context) error) error {
	limit := f.cfg.HookTimeout
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not through within AGENT_HOOK_TIMEOUT (%s)", limit))
	defer cancel()
	return run(ctx)
}

// migrate runs the migration of the database unless another node has.
func (f *follower) migrate(ctx context.Context) error {
	log := f.log.With().Str(logging.Patch, f.journal.Report().Patch).Logger()
	turn := rollout.Turn{JS: f.client.JS, Patch: f.journal.Report().Patch, Node: f.node, Every: f.cfg.PatchEvery}
	said := ""
	by, err := turn.Migrate(ctx, f.cfg.StopTimeout+migrateGrace,
		func(why string) {
			if why != said {
				said = why
				log.Warn().Str("for", why).Msg("hook migrate waits")
			}
		},
		func(ctx context.Context) error { return f.command(ctx, "migrate", "manage.py", "migrate", "--noinput") })
	if err == nil {
		log.Info().Str("by", by).Msg("database is migrated")
	}
	return err
}

// command runs the Python of the server in its home. An error has the end of what it printed.
func (f *follower) command(ctx context.Context, name string, args ...string) error {
	last, err := f.host.once(ctx, name, append([]string{f.cfg.Python}, args...)...)
	if err != nil && len(last) > 0 {
		return fmt.Errorf("%w: %s", err, strings.Join(last, " / "))
	}
	return err
}

// makeWay stops what a patch wants stopped before its files change.
func (f *follower) makeWay(hooks patch.Hooks) error {
	switch hooks.Restarted() {
	case patch.RestartNone:
		return nil
	case patch.RestartRunners:
		return f.host.stopWorker()
	default:
		return f.host.stop()
	}
}

// proof shows that the server is healthy on a home that was switched, as far as the patch concerns it.
func (f *follower) proof(ctx context.Context, hooks patch.Hooks) error {
	switch hooks.Restarted() {
	case patch.RestartNone:
		if f.host.isUp() {
			return nil
		}
		if err := f.host.start(ctx); err != nil && ctx.Err() == nil { // an earlier life has switched; nothing of the server depends on it
			f.log.Error().Err(err).Msg("server not healthy; going on")
		}
		return ctx.Err()
	case patch.RestartRunners:
		if err := f.host.checkServer(ctx); err != nil {
			return err
		}
	default:
		if err := f.host.startServer(ctx); err != nil {
			return err
		}
	}
	return f.host.settle(ctx)
}
