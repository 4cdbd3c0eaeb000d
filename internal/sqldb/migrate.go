package sqldb

import (
	"context"
	"errors"
	"fmt"

	"github.com/pressly/goose/v3"
)

// versionTable says which of our migrations a database has.
const versionTable = "omflow_booster_schema"

// ErrNewerSchema is returned when the database was migrated by a newer omflow-booster than this one.
var ErrNewerSchema = errors.New("database schema is newer than this program")

// Schema is where a database stands. Versions count from 1; 0 means that nothing was migrated yet.
type Schema struct {
	Current int64 // in the database
	Latest  int64 // known to this program
}

// SchemaVersion tells where the database stands and changes nothing but for creating the version table.
func (db *DB) SchemaVersion(ctx context.Context) (Schema, error) {
	p, err := db.provider()
	if err != nil {
		return Schema{}, err
	}
	return version(ctx, p)
}

// Migrate brings our tables up to date, one process at a time, and returns the versions that it applied.
// It refuses a schema that is newer than this program with ErrNewerSchema.
func (db *DB) Migrate(ctx context.Context) ([]int64, error) {
	p, err := db.provider()
	if err != nil {
		return nil, err
	}
	v, err := version(ctx, p)
	if err != nil {
		return nil, err
	}
	if v.Current > v.Latest {
		return nil, fmt.Errorf("%w: the database is at version %d, this program knows %d; update omflow-booster on this host",
			ErrNewerSchema, v.Current, v.Latest)
	}
	if v.Current == v.Latest {
		return nil, nil // the common start: nobody needs to wait for a lock
	}
	results, err := p.Up(ctx)
	if err != nil {
		return nil, fmt.Errorf("migrate database: %w", err)
	}
	applied := make([]int64, 0, len(results))
	for _, r := range results {
		applied = append(applied, r.Source.Version)
	}
	return applied, nil
}

func (db *DB) provider() (*goose.Provider, error) {
	opts := []goose.ProviderOption{goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true)}
	if db.Engine.Locker != nil {
		locker, err := db.Engine.Locker()
		if err != nil {
			return nil, fmt.Errorf("prepare migration lock: %w", err)
		}
		opts = append(opts, goose.WithSessionLocker(locker))
	}
	p, err := goose.NewProvider(db.Engine.Dialect, db.DB.DB, db.Engine.Migrations, opts...)
	if err != nil {
		return nil, fmt.Errorf("prepare migrations: %w", err)
	}
	return p, nil
}

// version reads without the lock, so that the common start waits for nobody. Only the very first starts on an empty
// database can be in each other's way (each wants to create the version table); they ask again under the lock.
func version(ctx context.Context, p *goose.Provider) (Schema, error) {
	current, latest, err := p.GetVersions(ctx)
	if err != nil {
		current, err = p.GetDBVersion(ctx)
		sources := p.ListSources()
		latest = sources[len(sources)-1].Version
	}
	if err != nil {
		return Schema{}, fmt.Errorf("read schema version: %w", err)
	}
	return Schema{Current: current, Latest: latest}, nil
}
