//go:build linux

package test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/pgtest"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

// outcome is what there is when everything is over, counted where it cannot be wrong: in SQL, and in the Booster. What the
// processes say of themselves is not used.
type outcome struct {
	omflowtest.Counts
	Wrong  int `db:"wrong"`  // pairs of ticket and step that do not have exactly one effect
	Outbox int `db:"outbox"` // rows of work that was submitted without one
	work   uint64
	dead   uint64
}

// countWrong shares nothing with the counts of package omflowtest: that the tickets and the steps of each are all there is
// to do is known here once more.
const countWrong = `SELECT
	(SELECT count(*) FROM
		(SELECT no AS ticket, step FROM omflowtest_ticket CROSS JOIN generate_series(1, 8) AS step) AS want
		FULL JOIN (SELECT ticket, step, count(*) AS effects FROM omflowtest_effect GROUP BY ticket, step) AS got USING (ticket, step)
		WHERE effects IS DISTINCT FROM 1 OR want.ticket IS NULL) AS wrong,
	(SELECT count(*) FROM omflow_booster_outbox) AS outbox`

func countOutcome(ctx context.Context, db *sqldb.DB) (o outcome, err error) {
	if err := db.GetContext(ctx, &o, countWrong); err != nil {
		return o, err
	}
	o.Counts, err = omflowtest.Count(ctx, db)
	return o, err
}

// check says what is wrong if every ticket is to be closed by now and nothing is to be left over.
func (o outcome) check() error {
	errs := []error{o.CheckFinished(o.Tickets)}
	for what, n := range map[string]int{
		"pairs of ticket and step do not have exactly one effect": o.Wrong,
		"rows are left in our outbox":                             o.Outbox,
		"messages are left on WORK":                               int(o.work),
		"steps are dead":                                          int(o.dead),
	} {
		if n != 0 {
			errs = append(errs, fmt.Errorf("%d %s", n, what))
		}
	}
	return errors.Join(errs...)
}

func (o outcome) String() string {
	var b strings.Builder
	line := func(name string, n any, remark string) { fmt.Fprintf(&b, "\n  %-10s%6v   %s", name, n, remark) }
	line("tickets", o.Tickets, "")
	line("accepted", o.Accepted, fmt.Sprintf("%d lost", o.Lost))
	line("effects", o.Effects, fmt.Sprintf("%d twice, %d with a row, %d of ticket and step wrong", o.Duplicates, o.Half, o.Wrong))
	line("waiting", o.Waiting, fmt.Sprintf("rows, and %d in the outbox", o.Outbox))
	line("WORK", o.work, "messages")
	line("DEAD", o.dead, "messages")
	return b.String()
}

// finish ends the load, waits until everything is done, stops every server, and only then counts: nobody is left who could
// still change something.
func (s *site) finish() {
	s.t.Helper()
	if s.load != nil {
		s.load.Stop()
	}
	s.drain()
	for _, srv := range s.servers {
		srv.stop()
	}
	s.verdict()
}

// drainTimeout is for a busy machine, as long as it gets on.
const drainTimeout = 10 * time.Minute

// drain waits until every step that was accepted is done and the queue is empty.
func (s *site) drain() {
	s.t.Helper()
	var o outcome
	done, moved := 0, time.Now()
	testkit.Await(s.t, drainTimeout, "every step to be done", func(ctx context.Context) (err error) {
		if o, err = s.outcome(ctx); err != nil {
			return err
		}
		if o.Effects > done {
			done, moved = o.Effects, time.Now()
		}
		if time.Since(moved) > timeout {
			s.t.Fatalf("no step was done for %s; it looks like this:%s", timeout, o)
		}
		if o.Waiting+o.Outbox+int(o.work) > 0 || o.Effects < o.Tickets*omflowtest.Steps {
			return fmt.Errorf("it looks like this:%s", o)
		}
		return nil
	})
}

// verdict counts, and fails the test for anything that is not as it must be.
func (s *site) verdict() {
	s.t.Helper()
	o, err := s.outcome(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Logf("counted:%s", o)
	if err := o.check(); err != nil {
		s.t.Error(err)
	}
	if o.Tickets == 0 {
		s.t.Error("no ticket was filed: nothing was tested")
	}
	if s.load == nil {
		return
	}
	people := s.load.Tally()
	if err := people.Check(o.Tickets); err != nil {
		s.t.Error(err)
	}
	if people.Failed > 0 && !s.serversFail {
		s.t.Errorf("%d requests to file a ticket failed, though nothing happened to the servers: %s", people.Failed, people.Cause)
	}
}

// outcome counts everything as it is now. The Booster must be there.
func (s *site) outcome(ctx context.Context) (outcome, error) {
	o, err := countOutcome(ctx, s.db)
	if err != nil {
		return o, err
	}
	c, err := bus.Dial(s.booster.client(), "test")
	if err != nil {
		return o, err
	}
	defer c.Close()
	for stream, messages := range map[string]*uint64{bus.StreamWork: &o.work, bus.StreamDead: &o.dead} {
		info, err := c.JS.Stream(ctx, stream)
		if err != nil {
			return o, err
		}
		*messages = info.CachedInfo().State.Msgs
	}
	return o, nil
}

// The scenarios are only worth what their count can see: each thing that must not be is made, and has to be found.
func TestCountSeesWhatMustNotBe(t *testing.T) {
	t.Parallel()
	db := openDatabase(t, pgtest.New(t))
	if err := omflowtest.Setup(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	items, err := omflowtest.File(t.Context(), db, "web", 2)
	if err != nil {
		t.Fatal(err)
	}
	exec := func(statement string, args ...any) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), statement, args...); err != nil {
			t.Fatalf("%s: %s", statement, err)
		}
	}
	const row = `INSERT INTO omflow_queuedata (id, queue_id, name, module_name, method_name, input_param) VALUES (7, '', '', '', '', '')`
	// Two tickets as they are when all of their steps are done: rows 1 to 16, of which filing has made the first two.
	exec(`DELETE FROM omflow_queuedata WHERE id IN ($1, $2)`, items[0].Row, items[1].Row)
	exec(`DELETE FROM omflowtest_accepted`)
	exec(`INSERT INTO omflowtest_accepted (row_id, ticket, step) SELECT (ticket - 1) * 8 + step, ticket, step
		FROM generate_series(1, 2) ticket, generate_series(1, 8) step`)
	exec(
		`INSERT INTO omflowtest_effect (ticket, step, queue_id, row_id, server, at)
			SELECT ticket, step, '', row_id, '', now() FROM omflowtest_accepted`)

	for name, wrong := range map[string]struct{ do, undo, says string }{
		"nothing": {},
		"a lost step": {
			`DELETE FROM omflowtest_effect WHERE row_id = 7`,
			`INSERT INTO omflowtest_effect (ticket, step, queue_id, row_id, server, at) VALUES (1, 7, '', 7, '', now())`,
			"1 accepted steps are lost",
		},
		"an effect twice": {
			`INSERT INTO omflowtest_effect (ticket, step, queue_id, row_id, server, at) VALUES (1, 7, '', 7, 'x', now())`,
			`DELETE FROM omflowtest_effect WHERE server = 'x'`, "1 effects were applied more than once",
		},
		"one for another": {
			`UPDATE omflowtest_effect SET step = 6 WHERE row_id = 7`,
			`UPDATE omflowtest_effect SET step = 7 WHERE row_id = 7`, "2 pairs of ticket and step",
		},
		"without a ticket": {
			`UPDATE omflowtest_effect SET ticket = 3 WHERE row_id = 7`,
			`UPDATE omflowtest_effect SET ticket = 1 WHERE row_id = 7`, "2 pairs of ticket and step",
		},
		"without a row": {
			`INSERT INTO omflowtest_effect (ticket, step, queue_id, row_id, server, at) VALUES (1, 7, '', 0, 'x', now())`,
			`DELETE FROM omflowtest_effect WHERE server = 'x'`, "1 pairs of ticket and step",
		},
		"a row left behind": {row, `DELETE FROM omflow_queuedata`, "1 are waiting"},
		"work left behind": {
			`INSERT INTO omflow_booster_outbox (item_key, body) VALUES ('', '')`, `DELETE FROM omflow_booster_outbox`,
			"1 rows are left in our outbox",
		},
		"an unfinished one": {
			`INSERT INTO omflowtest_ticket (server) VALUES ('x')`, `DELETE FROM omflowtest_ticket WHERE server = 'x'`,
			"8 pairs of ticket and step",
		},
	} {
		if wrong.do != "" {
			exec(wrong.do)
		}
		o, err := countOutcome(t.Context(), db)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(o.check()); !strings.Contains(got, wrong.says) || (wrong.says == "" && got != "<nil>") {
			t.Errorf("%s: the count says %s, want %q", name, got, wrong.says)
		}
		if wrong.undo != "" {
			exec(wrong.undo)
		}
	}
	for _, left := range []outcome{{work: 1}, {dead: 1}} {
		if left.check() == nil {
			t.Errorf("nothing is said of %+v", left)
		}
	}
}
