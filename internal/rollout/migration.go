package rollout

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// writeLimit bounds one try to change the plan.
const writeLimit = 5 * time.Second

// Migration is the one run of a patch's database migration in the whole system. It stays when the node rolls the patch back:
// the database has it.
type Migration struct {
	Node  string    `json:"node"`  // who runs it, or has run it; empty: nobody
	Until time.Time `json:"until"` // when the node has ended it, whatever comes
	Done  time.Time `json:"done"`  // when it had succeeded; zero: not yet
}

// holds tells whether the node is at the migration, or may be.
func (m Migration) holds(node string, now time.Time) bool {
	return node != "" && m.Node == node && m.Done.IsZero() && now.Before(m.Until)
}

// Migrate has run called unless the migration of the patch has succeeded somewhere, and never while another node may be at it:
// the node first writes itself into the plan, as the one who migrates. Without an answer from the bus it waits, and runs
// nothing. ctx must have a deadline, when run is ended; grace is how much longer that may take. by is who has migrated. If ctx
// ends while run is at it, the node stays the one: for its next life, or until run has surely ended.
func (t Turn) Migrate(ctx context.Context, grace time.Duration, say func(why string),
	run func(ctx context.Context) error,
) (by string, err error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return "", errors.New("a migration needs a deadline")
	}
	until := deadline.Add(grace)
	m, err := t.migration(ctx, say, func(m Migration) (Migration, string) {
		if m.Node != t.Node && m.holds(m.Node, time.Now()) {
			return m, fmt.Sprintf("%s to migrate the database, until %s at the latest", m.Node, m.Until.Local().Format(time.TimeOnly))
		}
		return Migration{Node: t.Node, Until: until}, ""
	})
	if err != nil || !m.Done.IsZero() {
		return m.Node, err
	}
	switch failed := run(ctx); {
	case failed == nil:
		_, err = t.migration(ctx, say, func(Migration) (Migration, string) {
			return Migration{Node: t.Node, Until: until, Done: time.Now()}, ""
		})
		if err != nil {
			err = fmt.Errorf("the database is migrated, but that could not be noted: %w", err)
		}
		return t.Node, err
	case ctx.Err() != nil:
		return "", failed
	default:
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeLimit)
		defer cancel()
		// If this does not arrive, the next one waits a little longer.
		_, _ = t.migration(ctx, say, func(m Migration) (Migration, string) {
			if m.Node != t.Node {
				return m, ""
			}
			return Migration{}, ""
		})
		return "", failed
	}
}

// migration changes the migration in the plan to what next makes of it, and returns it. One that is done stays. While next says
// what it waits for, and without an answer, it is tried again until ctx ends.
func (t Turn) migration(ctx context.Context, say func(why string), next func(m Migration) (Migration, string)) (Migration, error) {
	notify, stop := bus.Notify(t.JS.Conn(), planSubject(t.Patch))
	defer stop()
	for {
		var why string
		p, ok, err := Read(ctx, t.JS, t.Patch)
		if err == nil {
			p = p.orNext(ok, t.Patch, Policy{}) // the bucket was built anew
			before := p.Migration
			if !before.Done.IsZero() {
				return before, nil
			}
			p.Migration, why = next(before)
			if why == "" && p.Migration == before {
				return before, nil
			}
			if why == "" {
				err = t.write(ctx, p)
			}
			if why == "" && err == nil {
				return p.Migration, nil
			}
		}
		switch {
		case ctx.Err() != nil && why != "":
			return Migration{}, fmt.Errorf("waiting for %s: %w", why, context.Cause(ctx))
		case ctx.Err() != nil:
			return Migration{}, fmt.Errorf("waiting for the plan of the rollout: %w", context.Cause(ctx))
		case errors.Is(err, ErrChanged):
			continue
		case err != nil:
			why = "the plan of the rollout: " + err.Error()
		}
		say(why)
		bus.Wait(ctx, notify, t.Every)
	}
}

// write replaces the plan, or finds out in a moment that it cannot.
func (t Turn) write(ctx context.Context, p Plan) error {
	ctx, cancel := context.WithTimeout(ctx, writeLimit)
	defer cancel()
	return Write(ctx, t.JS, p)
}
