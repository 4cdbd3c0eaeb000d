package adopt

import (
	"context"
	"fmt"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/sqldb"
	"github.com/omflow-booster/omflow-booster/internal/text"
	"github.com/omflow-booster/omflow-booster/worker/outbox"
)

// indexTimeout is for an index on a large table: it waits for every transaction that runs already.
const indexTimeout = 15 * time.Minute

// index makes the index on omflow_queuedata(queue_id) if there is none, or, with undo, removes ours. An index that cannot be
// made or removed is said and is no reason to stop: everything works without it, and with it.
func (ad *Adoption) index(ctx context.Context, server Server, undo, write bool) error {
	ctx, cancel := context.WithTimeout(ctx, indexTimeout)
	defer cancel()
	db, err := sqldb.Open(ctx, server.Variables["DATABASE_URL"], ad.Engines)
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
	ad.Report.Index = statement
	if !write {
		_, err := fmt.Fprintf(ad.Out, "In the database, while the server goes on working: %s\n", statement)
		return err
	}
	if err := change(ctx); err != nil {
		return ad.noIndex(undo, err)
	}
	ad.Report.IndexDone = true
	_, err = fmt.Fprintf(ad.Out, "Index %s was %s.\n", outbox.Index, done)
	return err
}

func (ad *Adoption) noIndex(undo bool, cause error) error {
	verb := "made"
	if undo {
		verb = "removed"
	}
	_, err := fmt.Fprintf(ad.Out, "Index %s was not %s: %s. The owner of omflow_queuedata can do it.\n", outbox.Index, verb,
		text.OneLine(cause.Error()))
	return err
}
