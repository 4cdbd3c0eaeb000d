package agent

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// migrateGrace is how much longer a hook may be there than it should, besides AGENT_STOP_TIMEOUT: the time until a process that was
// killed is gone, and what the clocks of two hosts differ by.
const migrateGrace = 30 * time.Second

// hooks does what a patch wants done besides its files, before the server starts on them.
type hooks struct {
	cfg     *Config
	journal *patch.Journal
	once    func(ctx context.Context, name string, command ...string) (last []string, err error) // runs a command in the home to its end
	turns   turns
	log     zerolog.Logger

	done string // the patch under way, if its hooks were run in this life
}

func newHooks(h hooks) (*hooks, error) { return complete(&h) }

// forget has the next run do everything.
func (h *hooks) forget() { h.done = "" }

// run runs the hooks of the patch under way. Each can be done twice: when a life of the agent ends in the middle, the next one begins
// with the first hook again. An error says why the patch is to be rolled back, unless ctx has ended.
func (h *hooks) run(ctx context.Context) error {
	wanted, id := h.journal.Hooks(), h.journal.Report().Patch
	if h.done == id { // and only the end of the journal failed
		return nil
	}
	if wanted.Pip != "" {
		err := h.limit(ctx, func(ctx context.Context) error {
			return h.command(ctx, "pip", "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "-r", wanted.Pip)
		})
		if err != nil {
			return fmt.Errorf("hook pip: %w", err)
		}
	}
	if wanted.Migrate {
		if err := h.limit(ctx, h.migrate); err != nil {
			return fmt.Errorf("hook migrate: %w", err)
		}
	}
	h.done = id
	return nil
}

// limit gives one hook its time.
func (h *hooks) limit(ctx context.Context, run func(ctx context.Context) error) error {
	limit := h.cfg.HookTimeout
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not through within AGENT_HOOK_TIMEOUT (%s)", limit))
	defer cancel()
	return run(ctx)
}

// migrate runs the migration of the database unless another node has.
func (h *hooks) migrate(ctx context.Context) error {
	log := h.log.With().Str(logging.Patch, h.journal.Report().Patch).Logger()
	turn := h.turns.of(h.journal.Report().Patch)
	said := ""
	by, err := turn.Migrate(ctx, h.cfg.StopTimeout+migrateGrace,
		func(why string) {
			if why != said {
				said = why
				log.Warn().Str("for", why).Msg("hook migrate waits")
			}
		},
		func(ctx context.Context) error { return h.command(ctx, "migrate", "manage.py", "migrate", "--noinput") })
	if err == nil {
		log.Info().Str("by", by).Msg("database is migrated")
	}
	return err
}

// command runs the Python of the server in its home. An error has the end of what it printed.
func (h *hooks) command(ctx context.Context, name string, args ...string) error {
	last, err := h.once(ctx, name, append([]string{h.cfg.Python}, args...)...)
	if err != nil && len(last) > 0 {
		return fmt.Errorf("%w: %s", err, strings.Join(last, " / "))
	}
	return err
}
