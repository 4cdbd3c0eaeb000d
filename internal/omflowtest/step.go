package omflowtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/omflow-booster/omflow-booster/internal/sqldb"
	"github.com/omflow-booster/omflow-booster/internal/work"
)

// Errors of execute.
var (
	errLeasePassed = errors.New("the lease of the step has passed")
	errFault       = errors.New("failed on purpose")
)

// steps executes queue items on a database.
type steps struct {
	db     *sqldb.DB
	script *Script
	server string
	faults Faults
	exit   func(code int)
}

// attempt is one try of one step.
type attempt struct {
	item  work.Item
	n     int          // which try, from 1
	lease func() error // not nil once the step may belong to somebody else; asked before every statement
}

// execute gives a step its effect: in one transaction its own row goes, the effect comes, and the row of the next step
// comes. It returns the next step, or nil when there is none or when the row was gone, for then somebody else did it.
func (s *steps) execute(ctx context.Context, a attempt) (*work.Item, error) {
	ticket, step, err := s.script.Locate(a.item)
	if a.item.Row == 0 {
		return nil, s.rowless(ctx, a, ticket, step)
	}
	if err != nil {
		return nil, err
	}
	if s.faults.Fails(a.item.Row, a.n) {
		return nil, errFault
	}
	tx, err := s.db.BeginTxx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	t := leased{tx, a.lease}

	// Removing the row also locks it: of two that run the same step, the second waits here and then finds nothing.
	res, err := t.exec(ctx, deleteRow, a.item.Row)
	if err != nil {
		return nil, fmt.Errorf("remove row %d: %w", a.item.Row, err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return nil, err
	}
	if _, err := t.exec(ctx, insertEffect, ticket, step, a.item.QueueID, a.item.Row, s.server, time.Now()); err != nil {
		return nil, fmt.Errorf("insert effect: %w", err)
	}
	if s.faults.CrashesInStep(a.item.Row, a.n) {
		s.exit(CrashExit)
	}
	next, err := s.next(ctx, t, ticket, step)
	if err != nil {
		return nil, err
	}
	if err := a.lease(); err != nil {
		return nil, err
	}
	if err := tx.Commit(); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	if s.faults.CrashesAfterCommit(a.item.Row) {
		s.exit(CrashExit)
	}
	return next, nil
}

// next inserts the row of the step that follows.
func (s *steps) next(ctx context.Context, t leased, ticket int64, step int) (*work.Item, error) {
	if step == Steps {
		return nil, nil
	}
	it := s.script.Item(ticket, step+1)
	row, err := queueRow(ctx, t, it, ticket, step+1)
	if err != nil {
		return nil, err
	}
	it.Row = row
	return &it, nil
}

// rowless gives work that has no row of the OMFLOW Server its effect. Nothing can keep that from happening twice.
func (s *steps) rowless(ctx context.Context, a attempt, ticket int64, step int) error {
	if err := a.lease(); err != nil {
		return err
	}
	if _, err := s.db.ExecContext(ctx, s.db.Rebind(insertEffect), ticket, step, a.item.QueueID, 0, s.server, time.Now()); err != nil {
		return fmt.Errorf("insert effect: %w", err)
	}
	return nil
}

// file commits a ticket and the row of its first step, and returns that step.
func (s *steps) file(ctx context.Context) (work.Item, error) {
	tx, err := s.db.BeginTxx(ctx, nil)
	if err != nil {
		return work.Item{}, fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	t := leased{tx, func() error { return nil }}
	ticket, err := t.id(ctx, insertTicket, s.server)
	if err != nil {
		return work.Item{}, fmt.Errorf("insert ticket: %w", err)
	}
	it := s.script.Item(ticket, 1)
	if it.Row, err = queueRow(ctx, t, it, ticket, 1); err != nil {
		return work.Item{}, err
	}
	if err := tx.Commit(); err != nil {
		return work.Item{}, fmt.Errorf("commit: %w", err)
	}
	return it, nil
}

// queueRow makes a step durable and returns its primary key.
func queueRow(ctx context.Context, t leased, it work.Item, ticket int64, step int) (int64, error) {
	row, err := t.id(ctx, insertRow, it.QueueID, it.Name, it.ModuleName, it.MethodName, string(it.InputParam))
	if err != nil {
		return 0, fmt.Errorf("insert into omflow_queuedata: %w", err)
	}
	if _, err := t.exec(ctx, insertAccepted, row, ticket, step); err != nil {
		return 0, fmt.Errorf("note accepted step: %w", err)
	}
	return row, nil
}

// leased is a transaction that asks before every statement whether the step is still ours.
type leased struct {
	tx    *sqlx.Tx
	lease func() error
}

func (t leased) exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if err := t.lease(); err != nil {
		return nil, err
	}
	return t.tx.ExecContext(ctx, t.tx.Rebind(query), args...)
}

// id runs an INSERT … RETURNING of one number.
func (t leased) id(ctx context.Context, query string, args ...any) (id int64, err error) {
	if err := t.lease(); err != nil {
		return 0, err
	}
	return id, t.tx.GetContext(ctx, &id, t.tx.Rebind(query), args...)
}

// File commits tickets with the rows of their first steps, tells nobody, and returns those steps: for a test
// that hands them over by itself, or leaves them to the reconciler.
func File(ctx context.Context, db *sqldb.DB, server string, tickets int) ([]work.Item, error) {
	s := &steps{db: db, script: Recorded(), server: server}
	items := make([]work.Item, tickets)
	for i := range items {
		var err error
		if items[i], err = s.file(ctx); err != nil {
			return nil, err
		}
	}
	return items, nil
}
