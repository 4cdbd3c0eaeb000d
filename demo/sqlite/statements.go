package sqlite

import "github.com/omflow-booster/omflow-booster/internal/sqldb"

// statements says in SQLite's words what sqldb.Postgres says in PostgreSQL's. A value that is needed twice comes from a
// subquery, because "?" stands for the next argument each time.
var statements = sqldb.Statements{
	DatabaseStatements: sqldb.DatabaseStatements{
		QueueTable: `SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'omflow_queuedata') AS found, 1 AS allowed,
		'' AS refused, '' AS schemas, '' AS path, '' AS account, '' AS database`,
		Identity: `SELECT id FROM omflow_booster_database`,
		Place:    `SELECT ''`,
	},
	QueueStatements: sqldb.QueueStatements{
		QueueIDs:   `SELECT id FROM omflow_queuedata ORDER BY id`,
		OutboxIDs:  `SELECT id FROM omflow_booster_outbox ORDER BY id`,
		QueueRows:  `SELECT id, queue_id, name, module_name, method_name, input_param FROM omflow_queuedata WHERE id IN (?) ORDER BY id`,
		QueueFree:  `SELECT id, queue_id, name, module_name, method_name, input_param FROM omflow_queuedata WHERE id IN (?) ORDER BY id`,
		OutboxRows: `SELECT id AS outbox_id, body FROM omflow_booster_outbox WHERE id IN (?) ORDER BY id`,
		QueueCheck: `SELECT q.id, queue_id, name, module_name, method_name, input_param,
		coalesce((SELECT deliveries FROM omflow_booster_giveback WHERE source = 'q' AND row_id = step.id AND stream_seq = step.seq), 0) AS free
		FROM (SELECT ? AS id, ? AS seq) AS step JOIN omflow_queuedata q ON q.id = step.id`,
		OutboxCheck: `SELECT o.id AS outbox_id, body,
		coalesce((SELECT deliveries FROM omflow_booster_giveback WHERE source = 'o' AND row_id = step.id AND stream_seq = step.seq), 0) AS free
		FROM (SELECT ? AS id, ? AS seq) AS step JOIN omflow_booster_outbox o ON o.id = step.id`,
	},
	RemoveStatements: sqldb.RemoveStatements{
		DeleteQueue:  `DELETE FROM omflow_queuedata WHERE id IN (?)`,
		DeleteOutbox: `DELETE FROM omflow_booster_outbox WHERE id IN (?)`,
	},
	ReleaseStatements: sqldb.ReleaseStatements{
		DeleteReleases: `DELETE FROM omflow_booster_giveback WHERE source = ? AND row_id IN (?)`,
		AddRelease: `INSERT INTO omflow_booster_giveback (source, row_id, stream_seq, deliveries) VALUES (?, ?, ?, 1)
		ON CONFLICT (source, row_id) DO UPDATE SET stream_seq = excluded.stream_seq,
			deliveries = CASE WHEN stream_seq = excluded.stream_seq THEN deliveries + 1 ELSE 1 END`,
		PruneReleases: `DELETE FROM omflow_booster_giveback WHERE
		(source = 'o' AND row_id NOT IN (SELECT id FROM omflow_booster_outbox))
		OR (source = 'q' AND row_id NOT IN (SELECT id FROM omflow_queuedata))`,
	},
	InsertOutbox: `INSERT INTO omflow_booster_outbox (item_key, body) VALUES (:item_key, :body) ON CONFLICT (item_key) DO NOTHING
		RETURNING id, item_key`,
	OutboxByKey: `SELECT id, item_key FROM omflow_booster_outbox WHERE item_key IN (?)`,

	InsertHistory: `INSERT INTO omflow_booster_history (work_id, kind, flow, ticket, worker, attempt, outcome, error, started_at, duration_us)
		VALUES (:work_id, :kind, :flow, :ticket, :worker, :attempt, :outcome, :error, :started_at, :duration_us)`,
	PruneHistory: `DELETE FROM omflow_booster_history WHERE id IN
		(SELECT id FROM omflow_booster_history WHERE started_at < ? ORDER BY started_at LIMIT ?)`,
}
