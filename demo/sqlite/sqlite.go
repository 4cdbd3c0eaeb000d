// Package sqlite is the demo's database: SQLite as one more sqldb.Engine.
//
// It lets the demo run on a machine that has nothing but Go. The product refuses SQLite, because a file has one writer on
// one machine; here all servers are processes of one machine, and one writer is enough for what they do.
package sqlite

import (
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // driver "sqlite", without cgo

	"github.com/omflow-booster/omflow-booster/internal/sqldb"
)

//go:embed migrations/*.sql
var files embed.FS

// busyTimeout is how long a statement waits for the one writer before it fails. A dozen processes write here; each holds
// the lock for well under a millisecond, but nothing makes the queue for it fair.
const busyTimeout = 20 * time.Second

// URL is the DATABASE_URL of a database file. The path must be absolute.
func URL(path string) string { return (&url.URL{Scheme: "sqlite", Path: path}).String() }

// Engine is SQLite 3, in files.
func Engine() sqldb.Engine {
	migrations, err := fs.Sub(files, "migrations")
	if err != nil {
		panic(err) // the folder is embedded above: cannot happen
	}
	return sqldb.Engine{
		Name:       "SQLite",
		Schemes:    []string{"sqlite"},
		Open:       open,
		Dialect:    goose.DialectSQLite3,
		Migrations: migrations,
		Statements: statements,
	}
}

func open(databaseURL string) (*sqlx.DB, error) {
	u, err := url.Parse(databaseURL)
	if err != nil {
		return nil, err
	}
	if u.Host != "" || !strings.HasPrefix(u.Path, "/") {
		return nil, fmt.Errorf("%s does not name a file: use sqlite:///directory/file.db", databaseURL)
	}
	// Each parameter is there because several processes write: readers and the writer do not stop each other (WAL), who
	// has to wait waits (busy_timeout), and a transaction takes the write lock when it begins, since one that reads first
	// and wants to write later can fail at once, whatever the timeout.
	params := url.Values{
		"_busy_timeout": {fmt.Sprint(busyTimeout.Milliseconds())},
		"_journal_mode": {"WAL"},
		"_synchronous":  {"NORMAL"},
		"_txlock":       {"immediate"},
		// Times as microseconds, so that they compare as numbers, whatever zone they were written in.
		"_time_integer_format": {"unix_micro"},
		"_inttotime":           {"1"},
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: u.Path, RawQuery: params.Encode()}).String())
	if err != nil {
		return nil, err
	}
	x := sqlx.NewDb(db, "sqlite3") // the name by which sqlx knows that placeholders are "?"
	x.SetMaxOpenConns(4)
	x.SetMaxIdleConns(4) // opening one runs all the settings above
	return x, nil
}
