package indexes

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/pgtest"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

const flow = "0123456789abcdef0123456789abcdef"

// form creates the tables of a form, as Django names them.
func form(t *testing.T, database, flow string) {
	t.Helper()
	tickets := "omformmodel_omdata_" + flow
	pgtest.Exec(t, database, `CREATE TABLE `+tickets+` (id serial PRIMARY KEY, flow_uuid uuid, data_no int, history bool)`)
	pgtest.Exec(t, database, `CREATE TABLE `+tickets+`_valuehi59dc (id serial PRIMARY KEY, flow_uuid uuid, data_no int, data_id int)`)
	pgtest.Exec(t, database, `CREATE TABLE `+tickets+`_datano (id serial PRIMARY KEY)`)
}

// open returns a database with the tables of a server that has one form.
func open(t *testing.T) (database string, db *sqldb.DB) {
	t.Helper()
	database = pgtest.New(t)
	pgtest.OMFLOWTables(t, database)
	pgtest.Exec(t, database, `CREATE TABLE ommission_missions (id serial PRIMARY KEY, flow_uuid uuid, data_no int, data_id int)`)
	form(t, database, flow)
	db, err := sqldb.Open(t.Context(), database, []sqldb.Engine{sqldb.Postgres()})
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return database, db
}

func missing(t *testing.T, set *Set) (all []Index) {
	t.Helper()
	list, err := set.List(t.Context())
	require.NoError(t, err)
	for _, index := range list {
		require.NotEmpty(t, index.Reader(), index.Kind)
		if index.Missing() {
			all = append(all, index)
		}
	}
	return all
}

func begin(t *testing.T, set *Set) *Change {
	t.Helper()
	change, err := set.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(change.End)
	return change
}

func makeAll(t *testing.T, set *Set) {
	t.Helper()
	change := begin(t, set)
	for _, index := range missing(t, set) {
		require.NoError(t, change.Make(t.Context(), index, func(string) {}))
	}
	change.End()
}

func TestEveryLookUpOfTheEngineGetsItsIndexAndLosesOnlyOurs(t *testing.T) {
	t.Parallel()
	database, db := open(t)
	set := New(db)
	var kinds []string
	for _, index := range missing(t, set) {
		kinds = append(kinds, index.Kind)
		_, err := set.Probe(t.Context(), index)
		require.NoError(t, err)
	}
	require.Equal(t, []string{"queue", "values", "mission", "update", "ticket"}, kinds)
	pgtest.Exec(t, database, `CREATE INDEX theirs ON ommission_missions (flow_uuid, data_no)`) // a look-up names both
	require.Len(t, missing(t, set), 4)
	makeAll(t, set)
	require.Empty(t, missing(t, set))

	later := strings.Repeat("f", 32)
	form(t, database, later) // somebody deploys a form
	require.Len(t, missing(t, set), 2)
	makeAll(t, set)

	list, err := set.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 7)
	change := begin(t, set)
	for _, index := range list {
		require.LessOrEqual(t, len(index.Name), 63, "PostgreSQL cuts longer names")
		if index.Ours != nil {
			require.NoError(t, change.Remove(t.Context(), index))
		}
	}
	require.Len(t, missing(t, set), 6)
	var left []string
	require.NoError(t, db.Select(&left, `SELECT indexname FROM pg_indexes WHERE schemaname = 'public' AND indexname NOT LIKE '%_pkey'`))
	require.Equal(t, []string{"theirs"}, left)
}

// A build waits for the transactions that run already. Whoever interrupts it then leaves an index that is no use.
func TestInterruptedBuildIsFoundAndBuiltAgain(t *testing.T) {
	t.Parallel()
	database, db := open(t)
	set := New(db)
	set.patience = time.Minute
	writer, err := db.BeginTxx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { _ = writer.Rollback() }()
	_, err = writer.Exec(`INSERT INTO ommission_missions (data_no) VALUES (1)`)
	require.NoError(t, err)

	change := begin(t, set)
	change.every = 10 * time.Millisecond
	index := missing(t, set)[2]
	require.Equal(t, "mission", index.Kind)
	var progress atomic.Value
	ended := make(chan error, 1)
	go func() { ended <- change.Make(t.Context(), index, func(text string) { progress.Store(text) }) }()
	testkit.Eventually(t, "the build waits, and says so", func() bool {
		text, _ := progress.Load().(string)
		return strings.Contains(text, "omflow_booster_mission_no: waiting for writers")
	})
	pgtest.Exec(t, database, `SELECT pg_terminate_backend($1, 60000)`, change.session)
	require.Error(t, <-ended)
	change.End()
	require.NoError(t, writer.Commit())

	index = missing(t, set)[2]
	require.True(t, index.HalfBuilt())
	makeAll(t, set)
	require.Empty(t, missing(t, set))
	var valid bool
	require.NoError(t, db.Get(&valid, `SELECT indisvalid FROM pg_index WHERE indexrelid = 'omflow_booster_mission_no'::regclass`))
	require.True(t, valid)
}

func TestOneProcessChangesIndexesAtATime(t *testing.T) {
	t.Parallel()
	_, db := open(t)
	set := New(db)
	first := begin(t, set)
	set.patience = 0
	_, err := set.Begin(t.Context())
	require.ErrorIs(t, err, ErrBusy)
	first.End()
	set.patience = time.Minute
	begin(t, set)
	most, taken, err := set.Capacity(t.Context())
	require.NoError(t, err)
	require.Positive(t, taken)
	require.Greater(t, most, taken)
}
