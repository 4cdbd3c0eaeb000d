package adopt

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/sqldb"
	"github.com/omflow-booster/omflow-booster/internal/text"
	"github.com/omflow-booster/omflow-booster/worker/indexes"
)

const indexTimeout = time.Hour // for one index: it waits for every transaction that runs already, a backup for example

// IndexChange is an index that adopt makes or removes.
type IndexChange struct {
	Name      string `json:"name"`
	Statement string `json:"statement"`
	Rows      int64  `json:"rows"` // of its table, about
	Done      bool   `json:"done"`
}

// index makes the indexes that the engine's look-ups lack, or, with undo, removes ours, one after the other. An index that cannot be
// made or removed is said and is no reason to stop: everything works without it, and with it.
func (ad *Adoption) index(ctx context.Context, server Server, undo, write bool) error {
	if ad.SkipIndexes {
		return nil
	}
	db, err := sqldb.Open(ctx, server.Variables["DATABASE_URL"], ad.Engines)
	if err != nil {
		return ad.noIndex(err)
	}
	defer func() { _ = db.Close() }()
	set := indexes.New(db)
	all, err := set.List(ctx)
	if err != nil {
		return ad.noIndex(err)
	}
	var affected []indexes.Index
	for _, index := range all {
		statement := set.Creation(index)
		if undo {
			statement = set.Removal(index)
		}
		if undo && index.Ours != nil || !undo && index.Missing() {
			affected = append(affected, index)
			ad.Report.Indexes = append(ad.Report.Indexes, IndexChange{index.Name, statement, index.Rows, false})
		}
	}
	if len(affected) == 0 {
		return nil
	}
	if write {
		return ad.changeIndexes(ctx, set, affected, undo)
	}
	_, _ = fmt.Fprintln(ad.Out, "In the database, one after the other, while the server goes on working:")
	for i, index := range affected {
		why := ""
		if !undo {
			why = fmt.Sprintf(" -- without it %s reads all its rows (%s)", index.Reader(), text.Count(index.Rows))
		}
		_, _ = fmt.Fprintf(ad.Out, "  %s;%s\n", ad.Report.Indexes[i].Statement, why)
	}
	return nil
}

// changeIndexes makes or removes what index has found.
func (ad *Adoption) changeIndexes(ctx context.Context, set *indexes.Set, affected []indexes.Index, undo bool) error {
	change, err := set.Begin(ctx)
	if err != nil {
		return ad.noIndex(err)
	}
	defer change.End()
	for i, index := range affected {
		if err := ad.changeIndex(ctx, change, index, undo); err != nil {
			if err := ad.noIndex(err); err != nil || ctx.Err() != nil {
				return errors.Join(err, ctx.Err())
			}
			continue
		}
		ad.Report.Indexes[i].Done = true
	}
	return nil
}

func (ad *Adoption) changeIndex(ctx context.Context, change *indexes.Change, index indexes.Index, undo bool) error {
	one, cancel := context.WithTimeout(ctx, indexTimeout)
	defer cancel()
	if undo {
		if err := change.Remove(one, index); err != nil {
			return err
		}
		_, err := fmt.Fprintf(ad.Out, "Index %s was removed.\n", index.Name)
		return err
	}
	start := time.Now()
	_, _ = fmt.Fprintf(ad.Out, "Making index %s (%s rows) …\n", index.Name, text.Count(index.Rows))
	if err := change.Make(one, index, func(progress string) { _, _ = fmt.Fprintln(ad.Out, progress) }); err != nil {
		return err
	}
	_, err := fmt.Fprintf(ad.Out, "Index %s was made in %s.\n", index.Name, time.Since(start).Round(100*time.Millisecond))
	return err
}

// noIndex says why an index was not made or removed. Who runs adopt again goes on where this has ended.
func (ad *Adoption) noIndex(cause error) error {
	_, err := fmt.Fprintf(ad.Out, "Not all indexes were changed: %s. The owner of the tables can do it; run adopt again to go on.\n",
		text.OneLine(cause.Error()))
	return err
}
