package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
	"github.com/omflow-booster/omflow-booster/worker/outbox"
)

const (
	bindEvery   = 10 * time.Second // between two looks at whose steps the Booster carries; after a reconnect at once
	bindRetry   = 250 * time.Millisecond
	settingsOf  = "omflow/settings.py" // what makes a directory the home of an OMFLOW Server
	databaseOK  = "ok"                 // of the heartbeat
	claimAdvice = "`omflow-booster cluster database --use` says that this is the one now; see docs/OPERATIONS.md"
)

// bind makes sure that the Booster carries the steps of this worker's database: it writes so if the Booster knows of none, as
// an empty one does, and returns a *config.Error that names both if it is another one's. It waits for a database or Booster
// that does not answer.
func (w *Worker) bind(ctx context.Context) error {
	for {
		err := w.tryBind(ctx)
		var wrong *config.Error
		if err == nil || errors.As(err, &wrong) {
			return err
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // a requested stop
		}
		w.log.Warn().Err(err).Msg("not known yet whose steps the Booster carries; trying again")
		if !bus.Sleep(ctx, bindRetry) {
			return nil
		}
	}
}

func (w *Worker) tryBind(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	id, err := w.store.Identity(call)
	if err != nil {
		return err
	}
	mine := bus.Database{ID: id.ID, Place: id.Place, URL: sqldb.Shown(w.cfg.DatabaseURL)}
	w.identity.Store(&mine)
	if !w.shown {
		if err := w.showPlace(call, mine.Place); err != nil {
			return err
		}
	}
	holder, revision, err := bus.ReadDatabase(call, w.client.JS)
	if err != nil {
		return err
	}
	moved := holder.Place != "" && mine.Place != "" && holder.Place != mine.Place
	switch {
	case holder.ID == mine.ID && !moved:
		w.publisher.database.Store(&mine.ID)
		return nil
	case holder.ID != "" && holder.ID != mine.ID:
		return &config.Error{
			Var:     "DATABASE_URL",
			Problem: fmt.Sprintf("it leads to %s, and the Booster carries the steps of another database: %s", mine, holder),
			Fix:     "correct it, or BOOSTER_IP; if the other database is not used any more, " + claimAdvice,
		}
	case moved:
		if err := w.refuseCopy(call, mine, holder); err != nil {
			return err
		}
		w.log.Warn().Stringer("from", holder).Stringer("to", mine).Msg("the database has moved: no worker uses the former place any more")
	}
	if err := bus.WriteDatabase(call, w.client.JS, mine, revision); err != nil {
		return fmt.Errorf("write whose steps the Booster carries: %w", err) // another worker was faster: look again
	}
	w.log.Info().Stringer("database", mine).Msg("the Booster carries the steps of this database from now on")
	w.publisher.database.Store(&mine.ID)
	return nil
}

// showPlace waits until the heartbeat says where this worker's database lives. That comes before the key is read or written: of
// two workers with a copy each, one finds the other.
func (w *Worker) showPlace(ctx context.Context, place string) error {
	for {
		select {
		case w.news <- struct{}{}:
		default:
		}
		data, _, err := bus.ReadKey(ctx, w.client.JS, bus.BucketNodes, w.describe().Key())
		if err != nil {
			return err
		}
		var n bus.Node
		if json.Unmarshal(data, &n) == nil && n.Worker != nil && n.Worker.Place == place {
			w.shown = true
			return nil
		}
		if !bus.Sleep(ctx, bindRetry/5) {
			return fmt.Errorf("heartbeat not seen: %w", ctx.Err())
		}
	}
}

// refuseCopy returns an error if a worker is alive that uses the place that the Booster knows: then mine is a copy of that
// database, such as staging made from a backup of production, and not the same one that has moved.
func (w *Worker) refuseCopy(ctx context.Context, mine, holder bus.Database) error {
	nodes, err := bus.Nodes(ctx, w.client.JS)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if n.Worker != nil && n.Worker.Place == holder.Place && n.Name != w.cfg.Name {
			return &config.Error{
				Var: "DATABASE_URL",
				Problem: fmt.Sprintf("it leads to %s, a copy of the database whose steps the Booster carries: %s, which worker %s on %s uses now",
					mine, holder, n.Name, n.Host),
				Fix: "give the copy a Booster of its own; or, if this is the one now, stop every worker that uses the other",
			}
		}
	}
	return nil
}

// keepBound looks again and again until ctx ends: the Booster may have been emptied, or BOOSTER_IP may lead to another one by now.
func (w *Worker) keepBound(ctx context.Context) error {
	reconnects, last := w.client.NC.Stats().Reconnects, time.Now()
	for bus.Sleep(ctx, bindRetry) {
		now := w.client.NC.Stats().Reconnects
		if now == reconnects && time.Since(last) < bindEvery {
			continue
		}
		err := w.tryBind(ctx)
		var wrong *config.Error
		if errors.As(err, &wrong) {
			return err
		}
		if err == nil {
			reconnects, last = now, time.Now()
		}
	}
	return nil
}

// watchDatabase keeps the database's state, for the heartbeat and for the puller.
func (w *Worker) watchDatabase(ctx context.Context) {
	before := databaseOK
	for {
		err := w.look(ctx)
		state := databaseOK
		if err != nil {
			state = err.Error()
		}
		if state != before && ctx.Err() == nil {
			w.log.Warn().Str("state", state).Msg("the database is in another state than before")
		}
		before = state
		w.database.Store(&state)
		w.unusable.Store(errors.Is(err, outbox.ErrNoTable))
		if !bus.Sleep(ctx, bus.HeartbeatEvery) {
			return
		}
	}
}

// look tells what is wrong with the database: it does not answer, or the steps of the OMFLOW Server beside this worker cannot
// be reached in it.
func (w *Worker) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	table, err := w.store.QueueTable(ctx)
	if err != nil {
		return err
	}
	if table.Nowhere() && !BesideServer(w.cfg.Home) {
		return nil // other programs use the Booster too
	}
	return table.Problem()
}

// BesideServer tells whether a directory is the home of an OMFLOW Server.
func BesideServer(home string) bool {
	if home == "" {
		return false
	}
	_, err := os.Stat(filepath.Join(home, filepath.FromSlash(settingsOf)))
	return err == nil
}

// usable waits until steps can be looked up in the database, and tells whether that came before the end of ctx.
func (w *Worker) usable(ctx context.Context) bool {
	for !w.isUsable() {
		if !bus.Sleep(ctx, bindRetry/5) {
			return false
		}
	}
	return true
}

// isUsable tells whether steps can be looked up in the database.
func (w *Worker) isUsable() bool { return w.database.Load() != nil && !w.unusable.Load() }
