package worker_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/pgtest"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
	"github.com/omflow-booster/omflow-booster/worker"
	"github.com/omflow-booster/omflow-booster/worker/outbox"
)

// order puts an order to remove a row on WORK, as `dead purge` does.
func (s *site) order(row int64, body []byte) {
	s.t.Helper()
	msg := nats.NewMsg(bus.WorkSubject("FormFlow", "f1", fmt.Sprintf("q%d", row)))
	msg.Data = body
	msg.Header.Set(bus.HeaderDiscard, "true")
	_, err := s.c.JS.PublishMsg(s.t.Context(), msg)
	require.NoError(s.t, err)
}

// another is a second database on the bus of the first.
func (s *site) another() *site {
	s.t.Helper()
	other := &site{t: s.t, url: pgtest.New(s.t), bus: s.bus, c: s.c}
	pgtest.OMFLOWTables(s.t, other.url)
	other.db = other.open()
	_, err := other.db.Migrate(s.t.Context())
	require.NoError(s.t, err)
	return other
}

// runToTheEnd runs a worker that is to end by itself and returns why it did.
func (s *site) runToTheEnd(exec worker.Executor, change ...func(*worker.Config)) error {
	s.t.Helper()
	cfg := worker.Config{
		ClientConfig: s.bus.Config(), DatabaseURL: s.url, Executor: "runner", Slots: 4, Socket: s.socket(), Name: "other",
		MaxAttempts: 3, RetryBase: 20 * time.Millisecond, StepTimeout: time.Minute, StopTimeout: time.Second, Reconcile: 200 * time.Millisecond,
	}
	for _, f := range change {
		f(&cfg)
	}
	client := s.bus.Client()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	err := worker.New(cfg, client, outbox.New(s.open()), exec, zerolog.New(zerolog.NewTestWriter(s.t))).Run(ctx)
	require.NoError(s.t, ctx.Err(), "the worker runs on")
	return err
}

// The worker of staging on the Booster of production.
func TestWorkerOfAnotherDatabaseRefusesToStart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start(newExecutor(nil)).end() // the Booster is that of this database
	row := s.queueRow(1)
	_, err := s.c.JS.Publish(t.Context(), bus.WorkSubject("FormFlow", "f1", fmt.Sprintf("q%d", row)), item(1, row))
	require.NoError(t, err)

	other := s.another()
	other.queueRow(2)
	exec := newExecutor(nil)
	err = other.runToTheEnd(exec)
	require.ErrorContains(t, err, "DATABASE_URL")
	for _, named := range []*site{s, other} {
		require.ErrorContains(t, err, named.url[strings.LastIndexByte(named.url, '/'):], "both are named")
	}
	require.NotContains(t, err.Error(), s.url, "no password")
	all, _ := exec.steps()
	require.Zero(t, all)
	require.EqualValues(t, 1, s.messages(bus.StreamWork), "the step waits for a worker of its database")
	require.Equal(t, 1, other.rows("omflow_queuedata"))
}

func TestWorkerThatComesToTheBoosterOfAnotherDatabaseStops(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ended := make(chan error, 1)
	go func() { ended <- s.runToTheEnd(newExecutor(nil)) }()
	s.eventually("the Booster is ours", func() bool {
		d, _, err := bus.ReadDatabase(t.Context(), s.c.JS)
		return err == nil && d.ID != ""
	})
	d, revision, err := bus.ReadDatabase(t.Context(), s.c.JS)
	require.NoError(t, err)
	d.ID, d.URL = "0123456789", "postgres://elsewhere/x"
	require.NoError(t, bus.WriteDatabase(t.Context(), s.c.JS, d, revision))
	select {
	case err := <-ended:
		require.ErrorContains(t, err, "postgres://elsewhere/x")
	case <-time.After(timeout):
		t.Fatal("it goes on")
	}
}

// Staging made from a backup of production has its id too. A database that was moved looks the same, but nobody uses its former place.
func TestCopyOfADatabaseIsRefusedUnlessItHasTakenItsPlace(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	w := s.start(newExecutor(nil))
	other := s.another()
	id, err := outbox.New(s.db).Identity(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, id.Place)
	other.db.MustExec(`UPDATE omflow_booster_database SET id = $1`, id.ID)
	s.eventually("the worker is seen", func() bool {
		nodes, err := bus.Nodes(t.Context(), s.c.JS)
		return err == nil && len(nodes) == 1 && nodes[0].Worker.Place == id.Place
	})
	err = other.runToTheEnd(newExecutor(nil))
	require.ErrorContains(t, err, "a copy of the database")
	w.end()
	exec := newExecutor(nil)
	other.start(exec)
	other.queueRow(1)
	other.eventually("its step runs", func() bool { return other.rows("omflow_queuedata") == 0 })
	require.ErrorContains(t, s.runToTheEnd(newExecutor(nil)), "a copy of the database", "the former place comes back")
}

// A database that tells nobody where it lives, as hardened ones do: a copy cannot be told from it, and its worker works.
func TestAccountThatMayNotAskWhereTheDatabaseLives(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	role := fmt.Sprintf("placeless_%d", os.Getpid())
	s.db.MustExec(`REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC`)
	s.db.MustExec(`CREATE ROLE ` + role + ` LOGIN PASSWORD 'x'`)
	t.Cleanup(func() { pgtest.Exec(t, s.url, `DROP OWNED BY `+role); pgtest.Exec(t, s.url, `DROP ROLE `+role) })
	s.db.MustExec(`GRANT ALL ON ALL TABLES IN SCHEMA public TO ` + role)
	u, err := url.Parse(s.url)
	require.NoError(t, err)
	u.User = url.UserPassword(role, "x")
	want, err := outbox.New(s.db).Identity(t.Context())
	require.NoError(t, err)
	db, err := sqldb.Open(t.Context(), u.String(), []sqldb.Engine{sqldb.Postgres()})
	require.NoError(t, err)
	defer func() { _ = db.Close() }()
	id, err := outbox.New(db).Identity(t.Context())
	require.NoError(t, err)
	require.Equal(t, outbox.Identity{ID: want.ID}, id)
}

func TestEmptiedBoosterLearnsWhoseStepsItCarries(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start(newExecutor(nil))
	want, _, err := bus.ReadDatabase(t.Context(), s.c.JS)
	require.NoError(t, err)
	s.bus.Stop()
	s.bus.Wipe()
	s.bus.Start()
	s.eventually("written again", func() bool {
		d, _, err := bus.ReadDatabase(t.Context(), s.c.JS)
		return err == nil && d == want
	})
}

// Orders whose row holds another step by now: that of another database, or of this one before it was set back.
func TestDiscardOrderLeavesOtherStepsAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	hold := make(chan struct{})
	exec := newExecutor(func(context.Context, worker.Step) error { <-hold; return nil })
	s.order(s.queueRow(1), item(2, 0))
	s.order(s.queueRow(3), nil)
	s.order(s.queueRow(4), []byte("not an item"))
	s.start(exec)
	s.eventually("the rows are queued instead", func() bool { all, _ := exec.steps(); return all == 3 })
	require.Equal(t, 3, s.rows("omflow_queuedata"))
	close(hold)
	s.eventually("done", func() bool { return s.rows("omflow_queuedata") == 0 })
}

// After a database was set back it gives numbers again that DEAD still names.
func TestNumberThatIsGivenAgainIsNotDead(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	row := s.queueRow(1)
	_, err := s.c.JS.Publish(t.Context(), bus.DeadSubject("FormFlow", "f1", fmt.Sprintf("q%d", row)), item(2, row))
	require.NoError(t, err)
	s.start(newExecutor(nil))
	s.eventually("it runs", func() bool { return s.rows("omflow_queuedata") == 0 })
}

// The http executor runs what the message says.
func TestMessageWhoseRowHoldsAnotherStepIsDropped(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var ran []string
	exec := newExecutor(nil)
	exec.run = func(_ context.Context, st worker.Step) error {
		exec.mu.Lock()
		defer exec.mu.Unlock()
		ran = append(ran, st.Item.QueueID)
		return nil
	}
	row := s.queueRow(1)
	_, err := s.c.JS.Publish(t.Context(), bus.WorkSubject("FormFlow", "f1", fmt.Sprintf("q%d", row)), item(2, row))
	require.NoError(t, err)
	s.start(exec, func(c *worker.Config) { c.Executor, c.HTTPURL = "http", "http://unused" })
	s.eventually("done", func() bool { return s.rows("omflow_queuedata") == 0 && s.messages(bus.StreamWork) == 0 })
	exec.mu.Lock()
	defer exec.mu.Unlock()
	require.Equal(t, []string{"q1"}, ran)
}

func TestStepOfAnotherDatabaseIsNotRun(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	row := s.queueRow(1)
	msg := nats.NewMsg(bus.WorkSubject("FormFlow", "elsewhere", fmt.Sprintf("q%d", row)))
	msg.Data = item(1, row)
	msg.Header.Set(bus.HeaderDatabase, "0123456789")
	msg.Header.Set(bus.HeaderDiscard, "true")
	_, err := s.c.JS.PublishMsg(t.Context(), msg)
	require.NoError(t, err)
	exec := newExecutor(func(context.Context, worker.Step) error { return errors.New("no") })
	s.start(exec)
	s.eventually("its own step is dead", func() bool { return s.messages(bus.StreamDead) == 1 && s.messages(bus.StreamWork) == 0 })
	require.Equal(t, 1, s.rows("omflow_queuedata"))
	dead := s.dead(bus.DeadSubject("FormFlow", "f1", fmt.Sprintf("q%d", row)))
	id, err := outbox.New(s.db).Identity(t.Context())
	require.NoError(t, err)
	require.Equal(t, id.ID, dead.Header.Get(bus.HeaderDatabase))
}
