// Package outbox is the SQL side of a worker: the rows that make steps durable, and the history of their attempts.
//
// A step lives in a row: of omflow_queuedata when the OMFLOW Server queued it, of omflow_booster_outbox otherwise. The row is
// there from before its message is published until the step has had its effect. So whatever happens to the bus, the rows
// say what is left to do.
package outbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jmoiron/sqlx"

	"github.com/omflow-booster/omflow-booster/internal/sqldb"
	"github.com/omflow-booster/omflow-booster/internal/work"
)

// Store reads and writes the rows. It is safe for concurrent use.
type Store struct {
	db *sqldb.DB
	st sqldb.Statements
}

// New returns the store of an open database.
func New(db *sqldb.DB) *Store { return &Store{db: db, st: db.Engine.Statements} }

// Check is what the database knows of a step.
type Check struct {
	Found    bool      // the row is there: the step has not had its effect yet
	Released int       // deliveries that were given back and do not count as attempts
	Item     work.Item // what stands in the row
	Err      error     // the row cannot be carried: malformed or oversized
}

// Check looks a step up by its primary key. seq is the stream sequence of its message: what was given back of another message of the
// same step does not count. A table that is not there is an error: it says nothing about the row.
func (s *Store) Check(ctx context.Context, id work.ID, seq uint64) (Check, error) {
	var row struct {
		queueRow
		outboxRow
		Released int `db:"free"`
	}
	query := s.st.OutboxCheck
	if id.Source == work.Queue {
		query = s.st.QueueCheck
	}
	err := s.db.GetContext(ctx, &row, query, id.Row, int64(seq))
	if errors.Is(err, sql.ErrNoRows) {
		return Check{}, nil
	}
	if err != nil {
		return Check{}, fmt.Errorf("check row of step %s: %w", id, s.named(ctx, err))
	}
	stored := row.outboxRow.stored()
	if id.Source == work.Queue {
		stored = row.queueRow.stored()
	}
	return Check{Found: true, Released: row.Released, Item: stored.Item, Err: stored.Err}, nil
}

// Finish removes the rows of steps that have had their effect. Rows that are gone already are fine: a step of the OMFLOW
// engine removes its own. redelivered says that rows may also stand in the list of deliveries given back.
func (s *Store) Finish(ctx context.Context, ids []work.ID, redelivered bool) error {
	for _, src := range []struct {
		source work.Source
		query  string
	}{{work.Queue, s.st.DeleteQueue}, {work.Outbox, s.st.DeleteOutbox}} {
		rows := rowsOf(ids, src.source)
		if len(rows) == 0 {
			continue
		}
		if err := s.execList(ctx, src.query, rows); err != nil {
			return fmt.Errorf("remove rows of finished steps: %w", s.named(ctx, err))
		}
		if !redelivered {
			continue
		}
		query, args, err := sqlx.In(s.st.DeleteReleases, string(rune(src.source)), padded(rows))
		if err != nil {
			return err
		}
		if _, err := s.db.ExecContext(ctx, s.db.Rebind(query), args...); err != nil {
			return fmt.Errorf("remove given-back deliveries of finished steps: %w", err)
		}
	}
	return nil
}

// Release notes that one delivery of the step's message was not a try. seq is the stream sequence of that message.
func (s *Store) Release(ctx context.Context, id work.ID, seq uint64) error {
	if _, err := s.db.ExecContext(ctx, s.st.AddRelease, string(rune(id.Source)), id.Row, int64(seq)); err != nil {
		return fmt.Errorf("note that step %s was given back: %w", id, err)
	}
	return nil
}

// Submission is work without a row of the OMFLOW Server.
type Submission struct {
	Key  string `db:"item_key"` // unique while the work waits: submitting it again changes nothing
	Body string `db:"body"`     // the item as JSON
}

// insertMax is how many rows go into one statement: drivers allow some 32,000 parameters.
const insertMax = 4096

// Insert gives each submission a row of our outbox and returns the primary keys in the same order: all of them or none.
// A key whose work was finished by an earlier submit at that very moment gets 0.
func (s *Store) Insert(ctx context.Context, subs []Submission) ([]int64, error) {
	byKey := make(map[string]int64, len(subs))
	if len(subs) <= insertMax { // one statement is a transaction of its own: one round trip, and one flush of the database's log
		if err := s.insert(ctx, s.db, subs, byKey); err != nil {
			return nil, fmt.Errorf("insert into outbox: %w", err)
		}
		return rowsByKey(subs, byKey), nil
	}
	tx, err := s.db.BeginTxx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("insert into outbox: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit
	for chunk := range slices.Chunk(subs, insertMax) {
		if err := s.insert(ctx, tx, chunk, byKey); err != nil {
			return nil, fmt.Errorf("insert into outbox: %w", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return nil, fmt.Errorf("insert into outbox: %w", err)
	}
	return rowsByKey(subs, byKey), nil
}

func rowsByKey(subs []Submission, byKey map[string]int64) []int64 {
	ids := make([]int64, len(subs))
	for i, sub := range subs {
		ids[i] = byKey[sub.Key]
	}
	return ids
}

// insert inserts at most insertMax rows. It asks for those whose keys exist already, which INSERT does not return.
func (s *Store) insert(ctx context.Context, to sqlx.ExtContext, subs []Submission, byKey map[string]int64) error {
	if err := returned(ctx, to, s.st.InsertOutbox, filled(subs), byKey); err != nil {
		return err
	}
	var existing []string
	for _, sub := range subs {
		if byKey[sub.Key] == 0 {
			existing = append(existing, sub.Key)
		}
	}
	if len(existing) == 0 {
		return nil
	}
	query, args, err := sqlx.In(s.st.OutboxByKey, padded(existing))
	if err != nil {
		return err
	}
	var found []keyedRow
	if err := sqlx.SelectContext(ctx, to, &found, to.Rebind(query), args...); err != nil {
		return err
	}
	for _, f := range found {
		byKey[f.Key] = f.ID
	}
	return nil
}

type keyedRow struct {
	ID  int64  `db:"id"`
	Key string `db:"item_key"`
}

// returned runs an INSERT and notes the keys of the rows that it made.
func returned(ctx context.Context, to sqlx.ExtContext, query string, subs []Submission, byKey map[string]int64) error {
	rows, err := sqlx.NamedQueryContext(ctx, to, query, subs)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var made keyedRow
		if err := rows.Scan(&made.ID, &made.Key); err != nil {
			return err
		}
		byKey[made.Key] = made.ID
	}
	return rows.Err()
}

// filled repeats the smallest submission up to a power of two, for the reason of padded: a key that exists is left alone.
func filled(subs []Submission) []Submission {
	small := slices.MinFunc(subs, func(a, b Submission) int { return len(a.Body) - len(b.Body) })
	n := 1
	for n < len(subs) {
		n *= 2
	}
	subs = slices.Clip(subs)
	for len(subs) < n {
		subs = append(subs, small)
	}
	return subs
}

// IDs returns the identity of every step that has a row, in order of the primary key, one table after the other.
func (s *Store) IDs(ctx context.Context) ([]work.ID, error) {
	var outbox, queue []int64
	if err := s.db.SelectContext(ctx, &outbox, s.st.OutboxIDs); err != nil {
		return nil, fmt.Errorf("list outbox: %w", err)
	}
	// A database without an OMFLOW Server is in order: other programs use the Booster too.
	table, err := s.QueueTable(ctx)
	if err != nil {
		return nil, err
	}
	if err := table.Problem(); err != nil && !table.Nowhere() {
		return nil, err
	}
	if table.Found {
		if err := s.db.SelectContext(ctx, &queue, s.st.QueueIDs); err != nil {
			return nil, fmt.Errorf("list omflow_queuedata: %w", err)
		}
	}
	ids := make([]work.ID, 0, len(queue)+len(outbox))
	for _, row := range queue {
		ids = append(ids, work.ID{Source: work.Queue, Row: row})
	}
	for _, row := range outbox {
		ids = append(ids, work.ID{Source: work.Outbox, Row: row})
	}
	return ids, nil
}

// Stored is a step as its row holds it.
type Stored struct {
	ID   work.ID
	Item work.Item
	Err  error // the row cannot be carried: malformed or oversized
}

type queueRow struct {
	ID         int64   `db:"id"`
	QueueID    *string `db:"queue_id"`
	Name       *string `db:"name"`
	ModuleName *string `db:"module_name"`
	MethodName *string `db:"method_name"`
	InputParam *string `db:"input_param"`
}

func (r queueRow) stored() Stored {
	id := work.ID{Source: work.Queue, Row: r.ID}
	it := work.Item{
		Row: r.ID, QueueID: text(r.QueueID), Name: text(r.Name), ModuleName: text(r.ModuleName), MethodName: text(r.MethodName),
		InputParam: param(text(r.InputParam)),
	}
	return Stored{ID: id, Item: it, Err: it.Check()}
}

type outboxRow struct {
	ID   int64  `db:"outbox_id"`
	Body string `db:"body"`
}

func (r outboxRow) stored() Stored {
	it, err := work.Parse([]byte(r.Body))
	return Stored{ID: work.ID{Source: work.Outbox, Row: r.ID}, Item: it, Err: err}
}

// Load reads the steps that still have a row, at most a few hundred at once.
func (s *Store) Load(ctx context.Context, ids []work.ID) ([]Stored, error) {
	steps := make([]Stored, 0, len(ids))
	var queue []queueRow
	if err := s.selectList(ctx, &queue, s.st.QueueRows, rowsOf(ids, work.Queue)); err != nil {
		return nil, fmt.Errorf("read omflow_queuedata: %w", s.named(ctx, err))
	}
	for _, r := range queue {
		steps = append(steps, r.stored())
	}
	var outbox []outboxRow
	if err := s.selectList(ctx, &outbox, s.st.OutboxRows, rowsOf(ids, work.Outbox)); err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	for _, r := range outbox {
		steps = append(steps, r.stored())
	}
	return steps, nil
}

// LoadUnlocked is Load without the rows of omflow_queuedata that a transaction has locked: their steps run. An account that may not lock
// rows gets those as well.
func (s *Store) LoadUnlocked(ctx context.Context, ids []work.ID) ([]Stored, error) {
	var queue []queueRow
	err := s.selectList(ctx, &queue, s.st.QueueFree, rowsOf(ids, work.Queue))
	if s.IsBadInput(err) {
		return s.Load(ctx, ids)
	}
	if err != nil {
		return nil, fmt.Errorf("read omflow_queuedata: %w", s.named(ctx, err))
	}
	steps := make([]Stored, 0, len(ids))
	for _, r := range queue {
		steps = append(steps, r.stored())
	}
	others := slices.DeleteFunc(slices.Clone(ids), func(id work.ID) bool { return id.Source == work.Queue })
	stored, err := s.Load(ctx, others)
	return append(steps, stored...), err
}

// IsBadInput tells whether the database refused what it was given, as opposed to not answering.
func (s *Store) IsBadInput(err error) bool { return s.db.IsBadInput(err) }

// Ping tells whether the database answers.
func (s *Store) Ping(ctx context.Context) error { return s.db.PingContext(ctx) }

func (s *Store) selectList(ctx context.Context, dest any, query string, rows []int64) error {
	if len(rows) == 0 {
		return nil
	}
	query, args, err := sqlx.In(query, padded(rows))
	if err != nil {
		return err
	}
	return s.db.SelectContext(ctx, dest, s.db.Rebind(query), args...)
}

func (s *Store) execList(ctx context.Context, query string, rows []int64) error {
	query, args, err := sqlx.In(query, padded(rows))
	if err != nil {
		return err
	}
	_, err = s.db.ExecContext(ctx, s.db.Rebind(query), args...)
	return err
}

// padded repeats the last element up to a power of two. A list of every length would be a statement of its own, planned and kept by the
// database for each connection.
func padded[T any](list []T) []T {
	n := 1
	for n < len(list) {
		n *= 2
	}
	list = slices.Clip(list)
	for len(list) < n {
		list = append(list, list[len(list)-1])
	}
	return list
}

// chunks cuts rows that are inserted together into pieces whose lengths are powers of two, for the same reason.
func chunks[T any](rows []T, most int) [][]T {
	var pieces [][]T
	for n := most; n > 0; n /= 2 {
		for len(rows) >= n {
			pieces = append(pieces, rows[:n])
			rows = rows[n:]
		}
	}
	return pieces
}

func rowsOf(ids []work.ID, source work.Source) []int64 {
	rows := make([]int64, 0, len(ids))
	for _, id := range ids {
		if id.Source == source {
			rows = append(rows, id.Row)
		}
	}
	return rows
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// param carries the text of input_param as JSON when it is JSON, and as a JSON string when it is not.
func param(s string) json.RawMessage {
	if json.Valid([]byte(s)) {
		return json.RawMessage(s)
	}
	quoted, err := json.Marshal(s)
	if err != nil {
		return nil
	}
	return quoted
}
