// Package migrations embeds the schema of our own tables, one folder per database engine.
// The tables of the OMFLOW Server are never altered here; the one index that they lack is made by `omflow-booster adopt`.
package migrations

import (
	"embed"
	"io/fs"
)

//go:embed postgres/*.sql
var files embed.FS

// Postgres returns the migrations for PostgreSQL.
func Postgres() fs.FS { return sub("postgres") }

func sub(dir string) fs.FS {
	fsys, err := fs.Sub(files, dir)
	if err != nil {
		panic(err) // the folder is embedded above: cannot happen
	}
	return fsys
}
