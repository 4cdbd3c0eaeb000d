package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/pgtest"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
	"github.com/omflow-booster/omflow-booster/worker/outbox"
)

func TestClusterDatabase(t *testing.T) {
	s := newStage(t)
	url := pgtest.New(t)
	code, out := runApp(t, "cluster", "database")
	require.Zero(t, code, out)
	require.Contains(t, out, "of no database yet")
	former := bus.Database{ID: "0123456789", Place: "1/2", URL: "postgres://former/omflow"}
	require.NoError(t, bus.WriteDatabase(t.Context(), s.c.JS, former, 0))
	code, out = runApp(t, "cluster", "database")
	require.Zero(t, code, out)
	require.Contains(t, out, "postgres://former/omflow (id 01234567)")

	code, out = runApp(t, "cluster", "database", "--use", "--yes")
	require.Equal(t, exitUsage, code, out)
	require.Contains(t, out, "DATABASE_URL")
	t.Setenv("DATABASE_URL", url)
	code, out = runApp(t, "cluster", "database", "--use")
	require.Equal(t, exitUsage, code, out)
	require.Contains(t, out, "add --yes")
	code, out = runApp(t, "cluster", "database", "--use", "--yes")
	require.Equal(t, exitFailed, code, out)
	require.Contains(t, out, "run `omflow-booster migrate` first")
	code, out = runApp(t, "migrate")
	require.Zero(t, code, out)

	state := &bus.WorkerState{WorkerDatabase: bus.WorkerDatabase{DatabaseID: former.ID}}
	old := bus.Node{Role: bus.ServiceWorker, Name: "w1", Host: "h1", Worker: state}
	s.putNode(old)
	code, out = runApp(t, "cluster", "database", "--use", "--yes")
	require.Equal(t, exitFailed, code, out)
	require.Contains(t, out, "worker w1 on h1 uses another database")
	kv, err := s.c.JS.KeyValue(t.Context(), bus.BucketNodes)
	require.NoError(t, err)
	require.NoError(t, kv.Purge(t.Context(), old.Key()))
	code, out = runApp(t, "cluster", "database", "--use", "--yes")
	require.Zero(t, code, out)
	require.Contains(t, out, ":xxxxx@", "no password")

	db, err := sqldb.Open(t.Context(), url, []sqldb.Engine{sqldb.Postgres()})
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	id, err := outbox.New(db).Identity(t.Context())
	require.NoError(t, err)
	now, _, err := bus.ReadDatabase(t.Context(), s.c.JS)
	require.NoError(t, err)
	require.Equal(t, id.ID, now.ID)
}

// What a retry or a purge has taken out of DEAD is named to the reconciler: it believed those rows to be there.
func TestDeadRetryAndPurgeAskForALook(t *testing.T) {
	s := newStage(t)
	asked := make(chan string, 10)
	sub, err := s.c.NC.Subscribe("worker.prove", func(m *nats.Msg) { asked <- string(m.Data); _ = m.Respond(nil) })
	require.NoError(t, err)
	require.NoError(t, s.c.NC.Flush())
	defer func() { _ = sub.Unsubscribe() }()
	s.putDead("FormFlow", "f1", "q1", "")
	s.putDead("FormFlow", "f1", "q2", body("FormFlow"))
	for _, args := range [][]string{{"dead", "retry", "q1"}, {"dead", "purge", "q2", "--yes"}} {
		code, out := runApp(t, args...)
		require.Zero(t, code, out)
		select {
		case ids := <-asked:
			require.True(t, strings.HasPrefix(ids, args[2]), ids)
		case <-time.After(30 * time.Second):
			t.Fatal("nobody asked")
		}
	}
}
