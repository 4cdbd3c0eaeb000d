package omflowtest

import (
	"context"
	"fmt"

	"github.com/pressly/goose/v3"

	"github.com/omflow-booster/omflow-booster/internal/sqldb"
)

// All SQL of the stand-in, for PostgreSQL and SQLite. "?" is rebound to the engine's own placeholder.
//
// omflow_queuedata is the real server's table. The other three exist to count: nothing in them is unique but their own
// keys, so whatever happens twice is there twice.
const (
	tables = `
CREATE TABLE IF NOT EXISTS omflow_queuedata (
	id          %[1]s,
	queue_id    varchar(200) NOT NULL,
	name        varchar(200) NOT NULL,
	module_name varchar(200) NOT NULL,
	method_name varchar(200) NOT NULL,
	input_param text         NOT NULL
);
CREATE TABLE IF NOT EXISTS omflowtest_ticket (
	no     %[1]s,
	server varchar(100) NOT NULL
);
-- Every row that was ever committed to omflow_queuedata, written in the same transaction.
CREATE TABLE IF NOT EXISTS omflowtest_accepted (
	id     %[1]s,
	row_id bigint  NOT NULL,
	ticket bigint  NOT NULL,
	step   integer NOT NULL
);
CREATE TABLE IF NOT EXISTS omflowtest_effect (
	id       %[1]s,
	ticket   bigint       NOT NULL,
	step     integer      NOT NULL,
	queue_id varchar(200) NOT NULL,
	row_id   bigint       NOT NULL, -- 0: work that was submitted without a row
	server   varchar(100) NOT NULL,
	at       %[2]s        NOT NULL
);
CREATE INDEX IF NOT EXISTS omflowtest_effect_row ON omflowtest_effect (row_id);`

	insertTicket   = `INSERT INTO omflowtest_ticket (server) VALUES (?) RETURNING no`
	insertRow      = `INSERT INTO omflow_queuedata (queue_id, name, module_name, method_name, input_param) VALUES (?, ?, ?, ?, ?) RETURNING id`
	insertAccepted = `INSERT INTO omflowtest_accepted (row_id, ticket, step) VALUES (?, ?, ?)`
	deleteRow      = `DELETE FROM omflow_queuedata WHERE id = ?`
	insertEffect   = `INSERT INTO omflowtest_effect (ticket, step, queue_id, row_id, server, at) VALUES (?, ?, ?, ?, ?, ?)`

	// One statement, so one snapshot: it can be asked while everything moves.
	countAll = `SELECT
	(SELECT count(*) FROM omflowtest_ticket)                                     AS tickets,
	(SELECT count(*) FROM omflowtest_accepted)                                   AS accepted,
	(SELECT count(*) FROM omflowtest_effect WHERE row_id > 0)                    AS effects,
	(SELECT count(*) FROM omflowtest_effect WHERE row_id = 0)                    AS rowless,
	(SELECT count(*) FROM omflow_queuedata)                                      AS waiting,
	(SELECT count(*) FROM omflowtest_effect WHERE row_id > 0) - (SELECT count(*) FROM
		(SELECT DISTINCT ticket, step FROM omflowtest_effect WHERE row_id > 0) AS once) AS duplicates,
	(SELECT count(*) FROM omflowtest_accepted AS a
		WHERE NOT EXISTS (SELECT 1 FROM omflow_queuedata AS q WHERE q.id = a.row_id)
		AND NOT EXISTS (SELECT 1 FROM omflowtest_effect AS e WHERE e.row_id = a.row_id)) AS lost,
	(SELECT count(*) FROM omflow_queuedata AS q
		WHERE EXISTS (SELECT 1 FROM omflowtest_effect AS e WHERE e.row_id = q.id))       AS half`

	countProgress = `SELECT (SELECT count(*) FROM omflowtest_accepted) AS accepted, (SELECT count(*) FROM omflowtest_effect) AS effects`
	countShares   = `SELECT server, count(*) AS effects FROM omflowtest_effect GROUP BY server ORDER BY server`
)

// Setup creates the tables that are not there.
func Setup(ctx context.Context, db *sqldb.DB) error {
	key, moment := "serial PRIMARY KEY", "timestamptz"
	if db.Engine.Dialect == goose.DialectSQLite3 {
		// AUTOINCREMENT: a primary key that was deleted never comes back, for it is the identity of a step.
		key, moment = "integer PRIMARY KEY AUTOINCREMENT", "timestamp"
	}
	if _, err := db.ExecContext(ctx, fmt.Sprintf(tables, key, moment)); err != nil {
		return fmt.Errorf("create tables of the stand-in: %w", err)
	}
	return nil
}
