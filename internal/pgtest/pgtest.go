// Package pgtest gives each test a PostgreSQL database of its own.
//
// The cluster is the one of TEST_DATABASE_URL, which test.sh starts and exports. Nothing is skipped without it: a test
// that needs a database and has none fails and says what to do.
package pgtest

import (
	"context"
	"crypto/rand"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Env is the variable with the URL of a cluster in which tests may create databases.
const Env = "TEST_DATABASE_URL"

const timeout = 30 * time.Second // for one statement: creating a database copies files

// New creates an empty database, drops it at the end of the test even if clients are still connected, and returns its URL.
func New(t testing.TB) string {
	t.Helper()
	cluster := os.Getenv(Env)
	if cluster == "" {
		t.Fatalf("needs PostgreSQL: run ./test.sh, or set %s to a cluster in which tests may create databases", Env)
	}
	u, err := url.Parse(cluster)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		t.Fatalf("%s is not a URL of PostgreSQL: use postgres://user:password@host:port/postgres", Env)
	}
	name := databaseName(t)
	quoted := pgx.Identifier{name}.Sanitize()
	// From template0, which nobody can be connected to, so that tests can create databases at the same time.
	Exec(t, cluster, "CREATE DATABASE "+quoted+" TEMPLATE template0")
	t.Cleanup(func() { Exec(t, cluster, "DROP DATABASE IF EXISTS "+quoted+" WITH (FORCE)") })
	u.Path = "/" + name
	return u.String()
}

// OMFLOWTables creates the tables of the OMFLOW Server that omflow-booster touches, as the server itself does.
func OMFLOWTables(t testing.TB, databaseURL string) {
	t.Helper()
	Exec(t, databaseURL, `CREATE TABLE omflow_queuedata (
		id           serial PRIMARY KEY,
		queue_id     varchar(200) NOT NULL,
		name         varchar(200) NOT NULL,
		module_name  varchar(200) NOT NULL,
		method_name  varchar(200) NOT NULL,
		input_param  text         NOT NULL
	)`)
}

// Exec runs one statement over a connection of its own; the test ends if it fails.
// It may be called from a cleanup, so it does not use the context of the test, which has ended by then.
func Exec(t testing.TB, databaseURL, statement string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		t.Fatalf("connect to PostgreSQL: %s", err) // pgx leaves the password out
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, statement, args...); err != nil {
		t.Fatalf("%s: %s", statement, err)
	}
}

var notPlain = regexp.MustCompile(`[^a-z0-9]+`)

// databaseName names the test for people who look into the cluster. PostgreSQL cuts names after 63 bytes.
func databaseName(t testing.TB) string {
	name := strings.Trim(notPlain.ReplaceAllString(strings.ToLower(t.Name()), "_"), "_")
	return name[:min(len(name), 40)] + "_" + strings.ToLower(rand.Text()[:12])
}
