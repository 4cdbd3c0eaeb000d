package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/omflow-booster/omflow-booster/demo/sqlite"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
)

// database is where the OMFLOW Servers keep their data: a SQLite file, or a schema of its own in DATABASE_URL, so that
// nothing that is there already is touched or even seen.
type database struct {
	*sqldb.DB
	url    string
	schema string // empty with SQLite
}

func openDatabase(ctx context.Context, dir string) (*database, error) {
	d := &database{url: os.Getenv("DATABASE_URL")}
	if d.url == "" {
		d.url = sqlite.URL(filepath.Join(dir, "omflow.db"))
	} else if err := d.ownSchema(ctx); err != nil {
		return nil, err
	}
	var err error
	if d.DB, err = sqldb.Open(ctx, d.url, engines()); err != nil {
		return nil, err
	}
	if err = omflowtest.Setup(ctx, d.DB); err == nil {
		_, err = d.Migrate(ctx) // here, so that the three workers do not have to agree on who does it
	}
	if err != nil {
		d.close(false)
		return nil, err
	}
	return d, nil
}

// ownSchema creates a schema and makes it the one that the URL leads to.
func (d *database) ownSchema(ctx context.Context) error {
	u, err := url.Parse(d.url)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return fmt.Errorf("DATABASE_URL: %s is not PostgreSQL; the demo uses that, or a SQLite file when the variable is not set",
			sqldb.Shown(d.url))
	}
	db, err := sqldb.Open(ctx, d.url, engines())
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	schema := fmt.Sprintf("omflow_demo_%d_%d", os.Getpid(), time.Now().Unix())
	if _, err := db.ExecContext(ctx, `CREATE SCHEMA `+schema); err != nil {
		return fmt.Errorf("DATABASE_URL: the demo needs a schema of its own, and cannot create it: %w", err)
	}
	query := u.Query()
	query.Set("search_path", schema)
	u.RawQuery = query.Encode()
	d.url, d.schema = u.String(), schema
	return nil
}

// close removes the schema, unless it is to be kept. A SQLite file goes with its directory.
func (d *database) close(keep bool) {
	if d.DB == nil {
		return
	}
	if d.schema != "" && !keep {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if _, err := d.ExecContext(ctx, `DROP SCHEMA `+d.schema+` CASCADE`); err != nil {
			fmt.Fprintf(os.Stderr, "demo: schema %s is left behind: %s\n", d.schema, err)
		}
	}
	_ = d.Close()
}
