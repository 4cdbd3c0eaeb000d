package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/sqldb"
	"github.com/omflow-booster/omflow-booster/worker/outbox"
)

// indexTimeout is for an index on a large table: it waits for every transaction that runs already.
const indexTimeout = 15 * time.Minute

// judgeIndex says whether the engine's look-ups by queue_id have an index. fix is what to do if not.
func judgeIndex(ctx context.Context, store *outbox.Store, check, fix string) finding {
	indexed, err := store.Indexed(ctx)
	switch {
	case err != nil:
		return finding{check, verdictWarn, err.Error(), ""}
	case indexed:
		return finding{check, verdictOK, "omflow_queuedata has an index on queue_id", ""}
	}
	return finding{
		check, verdictWarn, "omflow_queuedata has no index on queue_id: the engine reads all waiting rows several times in each step", fix,
	}
}

// index makes the index on omflow_queuedata(queue_id) if there is none, or, with undo, removes ours. An index that cannot be
// made or removed is said and is no reason to stop: everything works without it, and with it.
func (ad *adoption) index(ctx context.Context, server adopted, undo, write bool) error {
	ctx, cancel := context.WithTimeout(ctx, indexTimeout)
	defer cancel()
	db, err := sqldb.Open(ctx, server.Variables["DATABASE_URL"], ad.engines)
	if err != nil {
		return ad.noIndex(undo, err)
	}
	defer func() { _ = db.Close() }()
	store := outbox.New(db)
	look, change, statement, done := store.Indexed, store.AddIndex, db.Engine.Statements.AddQueueIndex, "made"
	if undo {
		look, change, statement, done = store.HasOurs, store.DropIndex, db.Engine.Statements.DropQueueIndex, "removed"
	}
	there, err := look(ctx)
	if err != nil {
		return ad.noIndex(undo, err)
	}
	if there != undo {
		return nil
	}
	ad.report.Index = statement
	if !write {
		_, err := fmt.Fprintf(ad.out, "In the database, while the server goes on working: %s\n", statement)
		return err
	}
	if err := change(ctx); err != nil {
		return ad.noIndex(undo, err)
	}
	ad.report.IndexDone = true
	_, err = fmt.Fprintf(ad.out, "Index %s was %s.\n", outbox.Index, done)
	return err
}

func (ad *adoption) noIndex(undo bool, cause error) error {
	verb := "made"
	if undo {
		verb = "removed"
	}
	_, err := fmt.Fprintf(ad.out, "Index %s was not %s: %s. The owner of omflow_queuedata can do it.\n", outbox.Index, verb,
		oneLine(cause.Error()))
	return err
}
