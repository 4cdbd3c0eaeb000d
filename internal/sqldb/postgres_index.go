package sqldb

// IndexStatements are the SQL texts about indexes that the OMFLOW engine needs and does not create. Each "%s" takes a name that List
// returned, quoted already.
type IndexStatements struct {
	List     string // → kind, name, qualified, relation, col, row_count, indexed (a look-up has one), ours (null: none; false: half built)
	Create   string // name, relation, column; without stopping the server
	Drop     string // qualified name; if it is there
	Probe    string // relation, column: a look-up that finds nothing
	Session  string // → the number of this session
	Progress string // number of a session → what it builds at the moment, percent
	Lock     string // → whether this session alone changes indexes now; it keeps that to its end
	Capacity string // → most (connections that accounts like this one may have), taken
}

// postgresIndexes name what the engine of the OMFLOW Server looks up by. Forms have tables of their own, made when somebody deploys them,
// whose names hold 32 hexadecimal digits; Django shortens the longer one of each pair and puts four digits of a checksum at its end.
//
// An index that begins with the flow and goes on with the column serves as well: every look-up names both. Nothing waits for the lock: a
// session that waits within a statement would keep CREATE INDEX CONCURRENTLY waiting for itself.
var postgresIndexes = IndexStatements{
	List: `SELECT w.kind, w.prefix || CASE WHEN w.by_form THEN substring(c.relname from '[0-9a-f]{32}') ELSE '' END AS name,
		quote_ident(n.nspname) || '.' || w.prefix || CASE WHEN w.by_form THEN substring(c.relname from '[0-9a-f]{32}') ELSE '' END AS qualified,
		quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS relation, w.col,
		greatest(c.reltuples::bigint, pg_stat_get_live_tuples(c.oid), 0) AS row_count,
		EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL AND (i.indkey[0] = a.attnum OR
			i.indkey[1] = a.attnum AND i.indkey[0] =
				(SELECT f.attnum FROM pg_attribute f WHERE f.attrelid = c.oid AND f.attname = 'flow_uuid'))) AS indexed,
		(SELECT i.indisvalid FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = c.oid AND x.relname =
			w.prefix || CASE WHEN w.by_form THEN substring(c.relname from '[0-9a-f]{32}') ELSE '' END) AS ours
		FROM (VALUES
			(1, 'queue', '^omflow_queuedata$', 'queue_id', 'omflow_booster_queue_id', false),
			(2, 'values', '^omformmodel_omdata_[0-9a-f]{32}_valueh', 'data_no', 'omflow_booster_values_', true),
			(3, 'mission', '^ommission_missions$', 'data_no', 'omflow_booster_mission_no', false),
			(4, 'update', '^ommission_missions$', 'data_id', 'omflow_booster_mission_id', false),
			(5, 'ticket', '^omformmodel_omdata_[0-9a-f]{32}$', 'data_no', 'omflow_booster_ticket_', true)
		) AS w (place, kind, pattern, col, prefix, by_form)
		JOIN pg_class c ON c.relname ~ w.pattern AND c.relkind = 'r' AND pg_table_is_visible(c.oid)
		JOIN pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = w.col AND NOT a.attisdropped
		ORDER BY w.place, c.relname`,
	Create:  `CREATE INDEX CONCURRENTLY %s ON %s (%s)`,
	Drop:    `DROP INDEX CONCURRENTLY IF EXISTS %s`,
	Probe:   `SELECT count(*) FROM %s WHERE %s IS NULL`,
	Session: `SELECT pg_backend_pid()`,
	Progress: `SELECT phase, coalesce(CASE WHEN phase LIKE 'waiting%' THEN 100 * lockers_done / nullif(lockers_total, 0)
		ELSE 100 * greatest(blocks_done, 0) / nullif(blocks_total, 0) END, 0) AS percent FROM pg_stat_progress_create_index WHERE pid = $1`,
	Lock: `SELECT pg_try_advisory_lock(7236836120271)`,
	Capacity: `SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS most,
		(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS taken`,
}
