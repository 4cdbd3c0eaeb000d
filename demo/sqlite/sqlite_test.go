package sqlite_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/demo/sqlite"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest/contract"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
	"github.com/omflow-booster/omflow-booster/internal/work"
	"github.com/omflow-booster/omflow-booster/worker/outbox"
)

func TestMain(m *testing.M) { contract.Main(m, sqlite.Engine()) }

func TestStandInContractOnSQLite(t *testing.T) {
	t.Parallel()
	contract.Run(t, sqlite.Engine(), newDatabase)
}

// Every statement that a worker uses means the same here as on PostgreSQL.
func TestStatements(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := open(t, newDatabase(t))
	applied, err := db.Migrate(ctx)
	require.NoError(t, err)
	require.NotEmpty(t, applied)
	applied, err = db.Migrate(ctx)
	require.NoError(t, err)
	require.Empty(t, applied)
	s := outbox.New(db)
	id, err := s.Identity(ctx)
	require.NoError(t, err)
	require.Len(t, id.ID, 32)

	ids, err := s.IDs(ctx)
	require.NoError(t, err, "a database without an OMFLOW Server is in order")
	require.Empty(t, ids)
	require.NoError(t, omflowtest.Setup(ctx, db))
	items, err := omflowtest.File(ctx, db, "web", 2)
	require.NoError(t, err)
	sub := outbox.Submission{Key: "k", Body: `{"name":"n","module_name":"m","method_name":"f","input_param":{}}`}
	rows, err := s.Insert(ctx, []outbox.Submission{sub, {Key: "l", Body: sub.Body}})
	require.NoError(t, err)
	again, err := s.Insert(ctx, []outbox.Submission{sub})
	require.NoError(t, err)
	require.Equal(t, rows[:1], again, "the same key has the same row")

	ids, err = s.IDs(ctx)
	require.NoError(t, err)
	want := []work.ID{
		{Source: work.Queue, Row: 1},
		{Source: work.Queue, Row: 2},
		{Source: work.Outbox, Row: rows[0]},
		{Source: work.Outbox, Row: rows[1]},
	}
	require.Equal(t, want, ids)
	stored, err := s.Load(ctx, ids)
	require.NoError(t, err)
	require.Len(t, stored, 4)
	require.Equal(t, items[0], stored[0].Item)
	require.Equal(t, "m", stored[2].Item.ModuleName)

	for i, id := range []work.ID{ids[0], ids[2]} {
		item := stored[2*i].Item
		require.Equal(t, outbox.Check{Found: true, Item: item}, check(t, s, id))
		require.NoError(t, s.Release(ctx, id, 1))
		require.NoError(t, s.Release(ctx, id, 1))
		require.Equal(t, outbox.Check{Found: true, Released: 2, Item: item}, check(t, s, id))
		require.NoError(t, s.Finish(ctx, []work.ID{id}, true))
		require.Equal(t, outbox.Check{}, check(t, s, id))
	}

	began := time.Now().Add(-time.Hour)
	tries := []outbox.Attempt{{WorkID: "q1", Started: began, Outcome: "done"}, {WorkID: "q2", Started: time.Now(), Outcome: "done"}}
	require.NoError(t, s.Record(ctx, tries))
	var read []outbox.Attempt
	require.NoError(t, db.SelectContext(ctx, &read, `SELECT work_id, started_at, outcome FROM omflow_booster_history ORDER BY id`))
	require.WithinDuration(t, began, read[0].Started, time.Millisecond)
	pruned, err := s.Prune(ctx, time.Now().Add(-time.Minute).In(time.FixedZone("far away", -11*3600)), 10)
	require.NoError(t, err)
	require.EqualValues(t, 1, pruned)
}

// Several pools stand for several processes: each has connections of its own, and all write.
func TestManyWritersWaitForEachOther(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	require.NoError(t, omflowtest.Setup(t.Context(), open(t, url)))
	const writers, each = 6, 25
	var all sync.WaitGroup
	for i := range writers {
		db := open(t, url)
		all.Go(func() {
			if _, err := omflowtest.File(t.Context(), db, fmt.Sprint(i), each); err != nil {
				t.Errorf("writer %d: %s", i, err)
			}
		})
	}
	all.Wait()
	c, err := omflowtest.Count(t.Context(), open(t, url))
	require.NoError(t, err)
	require.NoError(t, c.Check())
	require.Equal(t, writers*each, c.Tickets)
}

func TestURLMustNameAFile(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"sqlite:file.db", "sqlite://host/file.db", "sqlite:"} {
		_, err := sqldb.Open(t.Context(), url, []sqldb.Engine{sqlite.Engine()})
		require.ErrorContains(t, err, "DATABASE_URL", url)
	}
}

func newDatabase(t *testing.T) string { return sqlite.URL(filepath.Join(t.TempDir(), "a b.db")) }

func open(t *testing.T, url string) *sqldb.DB {
	db, err := sqldb.Open(context.WithoutCancel(t.Context()), url, []sqldb.Engine{sqlite.Engine()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func check(t *testing.T, s *outbox.Store, id work.ID) outbox.Check {
	c, err := s.Check(t.Context(), id, 1)
	require.NoError(t, err)
	return c
}
