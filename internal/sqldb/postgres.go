package sqldb

import (
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // driver "pgx"
	"github.com/jmoiron/sqlx"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/omflow-booster/omflow-booster/migrations"
)

// Postgres is PostgreSQL 12 or later, through pgx.
func Postgres() Engine {
	return Engine{
		Name:       "PostgreSQL",
		Schemes:    []string{"postgres", "postgresql"},
		Open:       openPostgres,
		Dialect:    goose.DialectPostgres,
		Migrations: migrations.Postgres(),
		Locker: func() (lock.SessionLocker, error) {
			return lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 120)) // ask every second, two minutes at most
		},
		IsBadInput: isBadInput,
		Statements: Statements{
			DatabaseStatements: DatabaseStatements{
				QueueTable: `SELECT t IS NOT NULL AS found,
				coalesce(has_table_privilege(t, 'SELECT') AND has_table_privilege(t, 'DELETE'), false) AS allowed,
				coalesce((SELECT string_agg(c.relname, ', ' ORDER BY c.relname) FROM pg_class c
					WHERE c.oid IN (to_regclass('omflow_booster_outbox'), to_regclass('omflow_booster_giveback'), to_regclass('omflow_booster_history'))
					AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT') AND
						has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))), '') AS refused,
				coalesce((SELECT string_agg(n.nspname, ', ' ORDER BY n.nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
					WHERE c.relname = 'omflow_queuedata' AND c.relkind IN ('r', 'p', 'v', 'f')), '') AS schemas,
				array_to_string(current_schemas(false), ', ') AS path, current_user AS account, current_database() AS database
				FROM (SELECT to_regclass('omflow_queuedata') AS t) AS x`,
				Identity: `SELECT id FROM omflow_booster_database`,
				// What pg_control_system tells is another in each cluster that was not copied file by file, as a standby is. Not every account may ask.
				Place: `SELECT (SELECT system_identifier::text FROM pg_control_system()) || '/' ||
				(SELECT oid::text FROM pg_database WHERE datname = current_database())`,
			},
			QueueStatements: QueueStatements{
				QueueIDs:  `SELECT id FROM omflow_queuedata ORDER BY id`,
				OutboxIDs: `SELECT id FROM omflow_booster_outbox ORDER BY id`,
				QueueRows: `SELECT id, queue_id, name, module_name, method_name, input_param FROM omflow_queuedata WHERE id IN (?) ORDER BY id`,
				// The lock that this takes for a moment is the weakest that those of a runner (FOR UPDATE, DELETE) do not go together with.
				QueueFree: `SELECT id, queue_id, name, module_name, method_name, input_param FROM omflow_queuedata
				WHERE id IN (?) ORDER BY id FOR KEY SHARE SKIP LOCKED`,
				OutboxRows: `SELECT id AS outbox_id, body FROM omflow_booster_outbox WHERE id IN (?) ORDER BY id`,
				QueueCheck: `SELECT id, queue_id, name, module_name, method_name, input_param,
				coalesce((SELECT deliveries FROM omflow_booster_giveback WHERE source = 'q' AND row_id = $1 AND stream_seq = $2), 0) AS free
				FROM omflow_queuedata WHERE id = $1`,
				OutboxCheck: `SELECT id AS outbox_id, body,
				coalesce((SELECT deliveries FROM omflow_booster_giveback WHERE source = 'o' AND row_id = $1 AND stream_seq = $2), 0) AS free
				FROM omflow_booster_outbox WHERE id = $1`,
			},
			Indexes: postgresIndexes,
			RemoveStatements: RemoveStatements{
				DeleteQueue:  `DELETE FROM omflow_queuedata WHERE id IN (?)`,
				DeleteOutbox: `DELETE FROM omflow_booster_outbox WHERE id IN (?)`,
			},
			ReleaseStatements: ReleaseStatements{
				DeleteReleases: `DELETE FROM omflow_booster_giveback WHERE source = ? AND row_id IN (?)`,
				AddRelease: `INSERT INTO omflow_booster_giveback AS g (source, row_id, stream_seq, deliveries) VALUES ($1, $2, $3, 1)
				ON CONFLICT (source, row_id) DO UPDATE SET stream_seq = excluded.stream_seq,
					deliveries = CASE WHEN g.stream_seq = excluded.stream_seq THEN g.deliveries + 1 ELSE 1 END`,
				PruneReleases: `DELETE FROM omflow_booster_giveback g WHERE
				(source = 'o' AND NOT EXISTS (SELECT 1 FROM omflow_booster_outbox o WHERE o.id = g.row_id))
				OR (source = 'q' AND NOT EXISTS (SELECT 1 FROM omflow_queuedata q WHERE q.id = g.row_id))`,
			},
			InsertOutbox: `INSERT INTO omflow_booster_outbox (item_key, body) VALUES (:item_key, :body) ON CONFLICT (item_key) DO NOTHING
			RETURNING id, item_key`,
			OutboxByKey: `SELECT id, item_key FROM omflow_booster_outbox WHERE item_key IN (?)`,

			InsertHistory: `INSERT INTO omflow_booster_history
				(work_id, kind, flow, ticket, worker, attempt, outcome, error, started_at, duration_us)
				VALUES (:work_id, :kind, :flow, :ticket, :worker, :attempt, :outcome, :error, :started_at, :duration_us)`,
			PruneHistory: `DELETE FROM omflow_booster_history WHERE id IN
				(SELECT id FROM omflow_booster_history WHERE started_at < $1 ORDER BY started_at LIMIT $2)`,
		},
	}
}

// isBadInput tells whether the database answered with an error about the statement and its data. Classes 53, 57 and 58 are about the
// database itself, 08 and 40 about the connection and about other transactions.
func isBadInput(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || len(pg.Code) < 2 {
		return false
	}
	switch pg.Code[:2] {
	case "08", "40", "53", "57", "58", "XX":
		return false
	}
	return true
}

func openPostgres(databaseURL string) (*sqlx.DB, error) {
	if _, err := pgx.ParseConfig(databaseURL); err != nil { // sqlx would say so only with the first statement
		return nil, err
	}
	db, err := sqlx.Open("pgx", databaseURL)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(16) // statements are short and grouped; the OMFLOW Servers need connections too
	db.SetMaxIdleConns(16) // all: with fewer, a burst closes and opens connections for each statement, which costs more than the statement
	db.SetConnMaxIdleTime(5 * time.Minute)
	return db, nil
}
