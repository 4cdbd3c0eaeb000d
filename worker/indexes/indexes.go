// Package indexes makes the indexes that the look-ups of the OMFLOW engine need and that OMFLOW does not create, and takes them back.
//
// They are the one thing of ours on tables of the OMFLOW Server, and only `omflow-booster adopt` makes them. Each form has tables of its
// own, made when somebody deploys it, so there may be more to make at any time. Everything works without an index, and with it.
package indexes

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/omflow-booster/omflow-booster/internal/sqldb"
)

const (
	progressEvery = 10 * time.Second // a long build says how far it is
	lockPatience  = 10 * time.Second // the database may take a moment to end a session that was cut off, and with it its lock
)

// ErrBusy says that another process changes indexes of this database.
var ErrBusy = errors.New("another omflow-booster makes or removes indexes of this database; run this again when it has ended")

// readers are who reads all rows of a table that lacks its index, by the kind of the index.
var readers = map[string]string{
	"queue":   "each step",
	"values":  "each step",
	"mission": "each step at a form or an end point",
	"update":  "each update of a ticket by a user",
	"ticket":  "each step at a collection point",
}

// Index is one that the engine's look-ups need.
type Index struct {
	Kind      string `db:"kind"`
	Name      string `db:"name"`
	Qualified string `db:"qualified"` // name with its schema, quoted
	Relation  string `db:"relation"`  // table with its schema, quoted
	Column    string `db:"col"`
	Rows      int64  `db:"row_count"` // of the table, as the database estimates it
	Indexed   bool   `db:"indexed"`   // this one or another serves the look-ups
	Ours      *bool  `db:"ours"`      // ours is there; false: half built
}

// HalfBuilt tells whether a build was interrupted: the index costs each write and helps nobody.
func (i Index) HalfBuilt() bool { return i.Ours != nil && !*i.Ours }

// Missing tells whether there is something to make.
func (i Index) Missing() bool { return !i.Indexed || i.HalfBuilt() }

// Reader says who reads all rows of the table without the index.
func (i Index) Reader() string { return readers[i.Kind] }

// Set are the indexes of one database.
type Set struct {
	db       *sqldb.DB
	st       sqldb.IndexStatements
	patience time.Duration
}

// New returns the indexes of an open database.
func New(db *sqldb.DB) *Set { return &Set{db, db.Engine.Statements.Indexes, lockPatience} }

// List returns what the engine's look-ups need on the tables that are there, in the order in which to make it.
func (s *Set) List(ctx context.Context) (all []Index, err error) {
	if s.st.List == "" {
		return nil, nil
	}
	if err := s.db.SelectContext(ctx, &all, s.st.List); err != nil {
		return nil, fmt.Errorf("look for indexes: %w", err)
	}
	return all, nil
}

// Probe takes the time of one look-up in the table of an index.
func (s *Set) Probe(ctx context.Context, index Index) (time.Duration, error) {
	var n int
	start := time.Now()
	if err := s.db.GetContext(ctx, &n, fmt.Sprintf(s.st.Probe, index.Relation, index.Column)); err != nil {
		return 0, fmt.Errorf("look up in %s: %w", index.Relation, err)
	}
	return time.Since(start), nil
}

// Creation is the statement that makes an index.
func (s *Set) Creation(index Index) string {
	return fmt.Sprintf(s.st.Create, index.Name, index.Relation, index.Column)
}

// Removal is the statement that removes an index of ours.
func (s *Set) Removal(index Index) string { return fmt.Sprintf(s.st.Drop, index.Qualified) }

// Capacity returns how many connections the database has for accounts like this one, and how many are taken.
func (s *Set) Capacity(ctx context.Context) (most, taken int, err error) {
	var row struct{ Most, Taken int }
	if s.st.Capacity == "" {
		return 0, 0, nil
	}
	if err := s.db.GetContext(ctx, &row, s.st.Capacity); err != nil {
		return 0, 0, fmt.Errorf("count connections: %w", err)
	}
	return row.Most, row.Taken, nil
}

// Change makes or removes indexes. One process at a time may do that in a database: it holds a lock, in the session that does all the work.
type Change struct {
	set     *Set
	conn    *sqlx.Conn
	session int
	every   time.Duration
}

// Begin takes the lock. It returns ErrBusy if another process has it. The caller must call End.
func (s *Set) Begin(ctx context.Context) (*Change, error) {
	conn, err := s.db.Connx(ctx)
	if err != nil {
		return nil, err
	}
	c := &Change{set: s, conn: conn, every: progressEvery}
	if err = c.lock(ctx); err == nil {
		err = conn.GetContext(ctx, &c.session, s.st.Session)
	}
	if err != nil {
		c.End()
		return nil, err
	}
	return c, nil
}

func (c *Change) lock(ctx context.Context) error {
	for start := time.Now(); ; {
		var alone bool
		if err := c.conn.GetContext(ctx, &alone, c.set.st.Lock); err != nil || alone {
			return err
		}
		if time.Since(start) >= c.set.patience {
			return ErrBusy
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// End ends the session, and with it the lock.
func (c *Change) End() {
	_ = c.conn.Raw(func(any) error { return driver.ErrBadConn }) // a session that goes back to the pool would keep the lock
	_ = c.conn.Close()
}

// Make makes an index while the server goes on working. What an interrupted build has left goes first: we hold the lock, so nobody is at
// it. said is called every few seconds of a long build.
func (c *Change) Make(ctx context.Context, index Index, said func(progress string)) error {
	if index.HalfBuilt() {
		if err := c.Remove(ctx, index); err != nil {
			return err
		}
	}
	built := make(chan error, 1)
	go func() {
		_, err := c.conn.ExecContext(ctx, c.set.Creation(index))
		built <- err
	}()
	tick := time.NewTicker(c.every)
	defer tick.Stop()
	for {
		select {
		case err := <-built:
			if err != nil {
				return fmt.Errorf("%s: %w", c.set.Creation(index), err)
			}
			return nil
		case <-tick.C:
			var row struct {
				Phase   string
				Percent int
			}
			if c.set.db.GetContext(ctx, &row, c.set.st.Progress, c.session) == nil { // between two phases there is none
				said(fmt.Sprintf("%s: %s, %d %%", index.Name, row.Phase, row.Percent))
			}
		}
	}
}

// Remove removes an index of ours, if it is there.
func (c *Change) Remove(ctx context.Context, index Index) error {
	if _, err := c.conn.ExecContext(ctx, c.set.Removal(index)); err != nil {
		return fmt.Errorf("%s: %w", c.set.Removal(index), err)
	}
	return nil
}
