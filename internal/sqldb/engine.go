// Package sqldb opens the database that OMFLOW uses and keeps everything that differs between engines in one place each.
//
// The product knows PostgreSQL. The demo adds SQLite for itself, by passing one more Engine: nothing here depends on it.
package sqldb

import (
	"context"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/omflow-booster/omflow-booster/internal/config"
)

// Engine is one kind of database.
type Engine struct {
	Name       string   // shown to people
	Schemes    []string // of DATABASE_URL
	Open       func(databaseURL string) (*sqlx.DB, error)
	Dialect    goose.Dialect
	Migrations fs.FS                              // our own tables
	Locker     func() (lock.SessionLocker, error) // one migration at a time; nil where the engine has none
	Statements Statements

	// IsBadInput tells whether the database refused what it was given (too long, not storable, a table that is not there), as opposed to not
	// answering.
	IsBadInput func(err error) bool
}

// Statements are the SQL texts of one engine. Placeholders are the engine's own, but for lists, where sqlx.In expands
// the one "?" and rebinds the text, and for rows to insert, where sqlx expands the names.
type Statements struct {
	DatabaseStatements
	QueueStatements
	Indexes IndexStatements // on tables of the OMFLOW Server; empty where nobody makes any
	RemoveStatements
	ReleaseStatements

	InsertOutbox string // rows of item_key, body; a key that exists is left alone → id, item_key of the others
	OutboxByKey  string // list of keys → id, item_key

	InsertHistory string // rows of omflow_booster_history
	PruneHistory  string // time before which history goes, most rows to remove at once
}

// DatabaseStatements tell which database this is, and what the account may do in it.
type DatabaseStatements struct {
	QueueTable string // → one row: found, allowed, refused, schemas, path, account, database; see outbox.Table
	Identity   string // → id, the same for ever, in each copy
	Place      string // → text, another one in each copy; empty where the engine cannot tell
}

// QueueStatements read the rows of steps.
type QueueStatements struct {
	QueueIDs    string // → ids of omflow_queuedata, ascending
	OutboxIDs   string // → ids of omflow_booster_outbox, ascending
	QueueRows   string // list of ids → id, queue_id, name, module_name, method_name, input_param
	QueueFree   string // the same without rows that a transaction has locked, where the engine locks rows
	OutboxRows  string // list of ids → outbox_id, body
	QueueCheck  string // id, stream sequence → the row, if it is there, and free (deliveries of that message that a worker released)
	OutboxCheck string // the same for our outbox
}

// RemoveStatements remove the rows of steps.
type RemoveStatements struct {
	DeleteQueue  string // list of ids
	DeleteOutbox string // list of ids
}

// ReleaseStatements keep the notes on deliveries that did not count.
type ReleaseStatements struct {
	DeleteReleases string // source, list of ids
	AddRelease     string // source, id, stream sequence
	PruneReleases  string // removes notes on steps that are gone
}

// Open connects to the database of DATABASE_URL with the engine that its scheme names and checks that it answers.
// A wrong URL is a *config.Error that never shows the password.
func Open(ctx context.Context, databaseURL string, engines []Engine) (*DB, error) {
	engine, err := choose(databaseURL, engines)
	if err != nil {
		return nil, err
	}
	db, err := engine.Open(databaseURL)
	if err != nil {
		return nil, &config.Error{Var: "DATABASE_URL", Problem: redact(databaseURL, err), Fix: "use " + example}
	}
	ping, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := db.PingContext(ping); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("DATABASE_URL: database %s does not answer: %s; is it running, and are address, user and password right?",
			Shown(databaseURL), redact(databaseURL, err))
	}
	return &DB{DB: db, Engine: engine}, nil
}

// DB is an open database and what its engine needs.
type DB struct {
	*sqlx.DB
	Engine Engine
}

// IsBadInput tells whether the database refused what it was given, as opposed to not answering.
func (db *DB) IsBadInput(err error) bool {
	return err != nil && db.Engine.IsBadInput != nil && db.Engine.IsBadInput(err)
}

const example = "postgres://user:password@host:5432/database"

func choose(databaseURL string, engines []Engine) (Engine, error) {
	wrong := func(problem, fix string) (Engine, error) {
		return Engine{}, &config.Error{Var: "DATABASE_URL", Problem: problem, Fix: fix}
	}
	if databaseURL == "" {
		return wrong("not set", "give the database that the OMFLOW Server uses, for example "+example)
	}
	scheme, _, found := strings.Cut(databaseURL, ":")
	if !found {
		return wrong("it is not a URL", "use "+example)
	}
	scheme = strings.ToLower(scheme)
	for _, e := range engines {
		for _, s := range e.Schemes {
			if s == scheme {
				return e, nil
			}
		}
	}
	switch scheme {
	case "sqlite", "sqlite3", "file":
		return wrong("SQLite is not supported: several servers write to this database at the same time, and a SQLite file has one writer on "+
			"one machine",
			"move the OMFLOW Server to PostgreSQL and use "+example)
	case "mysql", "mariadb", "sqlserver", "mssql", "oracle":
		return wrong(scheme+" is not supported by this version", "use PostgreSQL: "+example)
	}
	return wrong(fmt.Sprintf("scheme %q is not known", scheme), "use "+example)
}

// Shown is the URL as people may see it: without the password.
func Shown(databaseURL string) string {
	u, err := url.Parse(databaseURL)
	if err != nil {
		scheme, _, _ := strings.Cut(databaseURL, ":")
		return scheme + "://…"
	}
	if query := u.Query(); query.Has("password") || query.Has("sslpassword") { // libpq takes them there, too
		for _, name := range []string{"password", "sslpassword"} {
			if query.Has(name) {
				query.Set(name, "xxxxx")
			}
		}
		u.RawQuery = query.Encode()
	}
	return u.Redacted()
}

// redact writes an error of a driver on one line and without the URL, which would show the password.
func redact(databaseURL string, err error) string {
	msg := strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\t' }), " ")
	msg = strings.ReplaceAll(msg, databaseURL, Shown(databaseURL))
	if u, perr := url.Parse(databaseURL); perr == nil {
		if pw, ok := u.User.Password(); ok && pw != "" {
			msg = strings.ReplaceAll(msg, pw, "xxxxx")
		}
	}
	return msg
}
