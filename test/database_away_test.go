//go:build linux

package test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/omflow-booster/omflow-booster/internal/pgtest"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

const awayFor = 4 * time.Second

func TestDatabaseIsAwayUnderLoad(t *testing.T) {
	t.Parallel()
	// given two servers at which people file tickets
	s := startSite(t, 2, merge(longSteps, env{"BOOSTER_LEASE": "5s"}))
	s.serversFail = true // they need the database, too
	s.fileTickets()
	s.afterSteps(s.some(15, 60))
	var before []int
	for _, srv := range s.servers {
		before = append(before, srv.worker.pid())
	}
	// when the database refuses everybody, for some seconds and until every worker has noticed
	s.closeDatabase()
	began := time.Now()
	for _, srv := range s.servers {
		testkit.Await(t, timeout, srv.name+" to notice", func(ctx context.Context) error {
			state, err := srv.worker.state(ctx)
			if err == nil && (state.Database == "ok" || time.Since(began) < awayFor) {
				err = fmt.Errorf("after %s it says that the database is %s", time.Since(began), state.Database)
			}
			return err
		})
	}
	s.openDatabase()
	// then the same workers go on, and nothing is lost and nothing happened twice
	s.afterSteps(20)
	for i, srv := range s.servers {
		if !srv.worker.running() || srv.worker.pid() != before[i] {
			t.Errorf("%s has ended", srv.name)
		}
	}
	s.finish()
	// then the outage has cost no step more than one try: the next one has waited for the database
	if most := s.must(`SELECT max(attempt) FROM omflow_booster_history`); most > 2 {
		t.Errorf("a step needed %d tries", most)
	}
}

// closeDatabase ends every connection to the database of the site and lets nobody in again.
func (s *site) closeDatabase() {
	s.t.Helper()
	s.allowConnections("false")
	pgtest.Exec(s.t, os.Getenv(pgtest.Env), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1`, s.databaseName())
}

func (s *site) openDatabase() {
	s.t.Helper()
	s.allowConnections("true")
}

func (s *site) allowConnections(yes string) {
	s.t.Helper()
	name := pgx.Identifier{s.databaseName()}.Sanitize()
	pgtest.Exec(s.t, os.Getenv(pgtest.Env), `ALTER DATABASE `+name+` ALLOW_CONNECTIONS `+yes)
}

func (s *site) databaseName() string {
	s.t.Helper()
	cfg, err := pgx.ParseConfig(s.database)
	if err != nil {
		s.t.Fatal(err)
	}
	return cfg.Database
}
