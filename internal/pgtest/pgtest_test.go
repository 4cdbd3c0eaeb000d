package pgtest_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/omflow-booster/omflow-booster/internal/pgtest"
)

func TestEachTestHasADatabaseOfItsOwn(t *testing.T) {
	t.Parallel()
	mine, other := pgtest.New(t), pgtest.New(t)
	if mine == other {
		t.Fatalf("the same database twice: %s", mine)
	}
	for _, db := range []string{mine, other} {
		pgtest.OMFLOWTables(t, db) // fails if the table is there already
		pgtest.Exec(t, db, `INSERT INTO omflow_queuedata (queue_id, name, module_name, method_name, input_param)
			VALUES ('f1c1', 'FormFlow', 'm', 'main', '{}')`)
	}
}

func TestDatabaseIsDroppedWhileSomebodyIsConnected(t *testing.T) {
	t.Parallel()
	var dropped string
	t.Run("user", func(t *testing.T) { dropped = pgtest.New(t); connect(t, dropped) })
	if conn, err := pgx.Connect(t.Context(), dropped); err == nil {
		_ = conn.Close(t.Context())
		t.Fatal("the database is still there after its test")
	}
}

// connect leaves a connection open on purpose.
func connect(t *testing.T, databaseURL string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
}
