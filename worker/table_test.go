package worker_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/pgtest"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
	"github.com/omflow-booster/omflow-booster/worker"
	"github.com/omflow-booster/omflow-booster/worker/outbox"
)

// The table is out of sight while a step fails: it is not done, and its failure was no try.
func TestMissingTableIsNotAMissingRow(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.db.MustExec(`CREATE SCHEMA hidden`)
	exec := newExecutor(nil)
	exec.run = func(context.Context, worker.Step) error {
		if len(exec.attemptsOf("q1")) == 1 {
			s.db.MustExec(`ALTER TABLE omflow_queuedata SET SCHEMA hidden`)
			return errors.New("relation omflow_queuedata does not exist")
		}
		return nil
	}
	w := s.start(exec)
	w.submit(item(1, s.queueRow(1)))
	s.eventually("given back", func() bool { return s.rows("omflow_booster_giveback") == 1 })
	require.EqualValues(t, 1, s.messages(bus.StreamWork), "its message stays")
	s.db.MustExec(`ALTER TABLE hidden.omflow_queuedata SET SCHEMA public`)
	s.eventually("done", func() bool { return s.rows("omflow_queuedata") == 0 && s.messages(bus.StreamWork) == 0 })
	w.end()
	require.Equal(t, []int{1, 1}, exec.attemptsOf("q1"))
	require.Equal(t, 1, s.rows("omflow_booster_history"), "it was done once")
}

func TestWorkerBesideAServerWaitsForItsTable(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.db.MustExec(`CREATE SCHEMA omflow`)
	s.db.MustExec(`ALTER TABLE omflow_queuedata SET SCHEMA omflow`)
	home := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(home, "omflow"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(home, "omflow", "settings.py"), nil, 0o600))
	w, ready := s.launch(newExecutor(nil), func(c *worker.Config) { c.Home = home })
	said := func(what string) {
		t.Helper()
		s.eventually("the heartbeat says "+what, func() bool {
			nodes, err := bus.Nodes(t.Context(), s.c.JS)
			return err == nil && len(nodes) == 1 && nodes[0].Worker.Database != "ok" &&
				strings.Contains(nodes[0].Worker.Database, what)
		})
	}
	said("omflow_queuedata is in schema omflow")
	s.db.MustExec(`DROP TABLE omflow.omflow_queuedata`)
	said("has no table omflow_queuedata")
	select {
	case <-ready:
		t.Fatal("it is ready")
	default:
	}
	pgtest.OMFLOWTables(t, s.url)
	s.queueRow(1)
	<-ready
	s.eventually("its step runs", func() bool { return s.rows("omflow_queuedata") == 0 })
	w.end()
}

func TestQueueTable(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.queueRow(1)
	role := fmt.Sprintf("reader_%d", os.Getpid())
	s.db.MustExec(`CREATE ROLE ` + role + ` LOGIN PASSWORD 'x'`)
	t.Cleanup(func() { pgtest.Exec(t, s.url, `DROP OWNED BY `+role); pgtest.Exec(t, s.url, `DROP ROLE `+role) })
	u, err := url.Parse(s.url)
	require.NoError(t, err)
	u.User = url.UserPassword(role, "x")
	s.db.MustExec(`GRANT SELECT ON ALL TABLES IN SCHEMA public TO ` + role)

	open := func(options string) *outbox.Store {
		u := *u
		if options != "" {
			q := u.Query()
			q.Set("options", options)
			u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20") // a plus is a plus in these URLs
		}
		db, err := sqldb.Open(t.Context(), u.String(), []sqldb.Engine{sqldb.Postgres()})
		require.NoError(t, err)
		t.Cleanup(func() { _ = db.Close() })
		return outbox.New(db)
	}
	problem := func(store *outbox.Store) string {
		table, err := store.QueueTable(t.Context())
		require.NoError(t, err)
		err = table.Problem()
		require.ErrorIs(t, err, outbox.ErrNoTable)
		return err.Error()
	}
	require.Contains(t, problem(open("")), "may not read and write omflow_booster_giveback, omflow_booster_history, omflow_booster_outbox")
	s.db.MustExec(`GRANT INSERT, UPDATE, DELETE ON omflow_booster_giveback, omflow_booster_history, omflow_booster_outbox TO ` + role)
	require.Contains(t, problem(open("")), "may not read and remove rows")
	s.db.MustExec(`GRANT DELETE ON omflow_queuedata TO ` + role)
	table, err := open("").QueueTable(t.Context())
	require.NoError(t, err)
	require.NoError(t, table.Problem())

	s.db.MustExec(`CREATE SCHEMA omflow`)
	s.db.MustExec(`ALTER TABLE omflow_queuedata SET SCHEMA omflow`)
	require.Contains(t, problem(open("")), "options=-c%20search_path%3Domflow")
	require.Contains(t, problem(open("-c search_path=omflow")), "let that account use the schema")
	_, err = open("").IDs(t.Context())
	require.ErrorIs(t, err, outbox.ErrNoTable, "rows that wait are not silently none")
	s.db.MustExec(`GRANT USAGE ON SCHEMA omflow TO ` + role)
	ids, err := open("-c search_path=omflow,public").IDs(t.Context())
	require.NoError(t, err)
	require.Len(t, ids, 1, "as Django with the same OPTIONS")
}
