package outbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// ErrNoTable is returned when omflow_queuedata cannot be used as this connection sees it. It never means that a row is gone.
var ErrNoTable = errors.New("the steps of the OMFLOW Server cannot be reached")

// Table is what a connection sees of omflow_queuedata.
type Table struct {
	Found    bool   `db:"found"`
	Allowed  bool   `db:"allowed"` // to read and to remove rows
	Refused  string `db:"refused"` // our own tables that this account may not read and write
	Schemas  string `db:"schemas"` // in which it is, whether this connection looks there or not
	Path     string `db:"path"`    // schemas in which this connection looks
	Account  string `db:"account"`
	Database string `db:"database"`
}

// QueueTable looks for omflow_queuedata.
func (s *Store) QueueTable(ctx context.Context) (Table, error) {
	var t Table
	if err := s.db.GetContext(ctx, &t, s.st.QueueTable); err != nil {
		return Table{}, fmt.Errorf("look for omflow_queuedata: %w", err)
	}
	return t, nil
}

// Nowhere tells that the whole database has no such table: no OMFLOW Server uses it.
func (t Table) Nowhere() bool { return !t.Found && t.Schemas == "" && t.Refused == "" }

// Problem says what keeps a worker from using the table, and what to do about it; nil if nothing does.
func (t Table) Problem() error {
	switch {
	case t.Refused != "":
		return fmt.Errorf("%w: account %s may not read and write %s; use the account that made them, or GRANT SELECT, INSERT, UPDATE, DELETE",
			ErrNoTable, t.Account, t.Refused)
	case t.Found && t.Allowed:
		return nil
	case t.Found:
		return fmt.Errorf("%w: account %s may not read and remove rows of omflow_queuedata; use the account of the OMFLOW Server, or GRANT "+
			"SELECT, DELETE",
			ErrNoTable, t.Account)
	case t.Schemas != "":
		first, _, _ := strings.Cut(t.Schemas, ",")
		return fmt.Errorf("%w: omflow_queuedata is in schema %s of database %s, and account %s looks in (%s); "+
			"add options=-c%%20search_path%%3D%s to DATABASE_URL, and let that account use the schema", ErrNoTable, t.Schemas, t.Database,
			t.Account, t.Path, first)
	}
	return fmt.Errorf("%w: database %s has no table omflow_queuedata; does DATABASE_URL name the database of the OMFLOW Server, and has "+
		"`manage.py migrate` run?",
		ErrNoTable, t.Database)
}

// named adds to a refusal of the database that omflow_queuedata cannot be reached, if that is why.
func (s *Store) named(ctx context.Context, err error) error {
	if !s.db.IsBadInput(err) {
		return err
	}
	table, lookErr := s.QueueTable(ctx)
	if lookErr != nil || table.Problem() == nil {
		return err // it is about something else
	}
	return errors.Join(table.Problem(), err)
}

// Identity is which database this is.
type Identity struct {
	ID    string // made once, and part of each copy and backup
	Place string // where this copy lives; empty if the database does not say, or not to this account
}

// Identity reads which database this is.
func (s *Store) Identity(ctx context.Context) (Identity, error) {
	var id Identity
	if err := s.db.GetContext(ctx, &id.ID, s.st.Identity); err != nil {
		return Identity{}, fmt.Errorf("read the id of the database: %w", err)
	}
	if err := s.db.GetContext(ctx, &id.Place, s.st.Place); err != nil && !s.db.IsBadInput(err) {
		return Identity{}, fmt.Errorf("read where the database lives: %w", err)
	}
	return id, nil
}
