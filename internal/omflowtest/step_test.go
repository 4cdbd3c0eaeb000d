package omflowtest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/pgtest"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
)

// The lease may pass between any two statements: whenever it does, the step has changed nothing.
func TestLeaseIsAskedBeforeEveryStatement(t *testing.T) {
	t.Parallel()
	db, err := sqldb.Open(t.Context(), pgtest.New(t), []sqldb.Engine{sqldb.Postgres()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	require.NoError(t, Setup(t.Context(), db))
	items, err := File(t.Context(), db, "web", 1)
	require.NoError(t, err)
	before, err := Count(t.Context(), db)
	require.NoError(t, err)
	s := &steps{db: db, script: Recorded(), server: "s"}

	const statements = 5 // remove, effect, row, note, commit
	for last := range statements {
		asked := 0
		_, err := s.execute(t.Context(), attempt{item: items[0], n: 1, lease: func() error {
			if asked++; asked > last {
				return errLeasePassed
			}
			return nil
		}})
		require.ErrorIs(t, err, errLeasePassed, "after %d statements", last)
		after, err := Count(t.Context(), db)
		require.NoError(t, err)
		require.Equal(t, before, after, "after %d statements", last)
	}
	asked := 0
	next, err := s.execute(t.Context(), attempt{item: items[0], n: 1, lease: func() error { asked++; return nil }})
	require.NoError(t, err)
	require.Equal(t, statements, asked)
	require.Greater(t, next.Row, items[0].Row)
}
