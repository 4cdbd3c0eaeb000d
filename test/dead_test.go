//go:build linux

package test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

func TestStepsThatFailAreTriedAgain(t *testing.T) {
	t.Parallel()
	// given a server at which a third of all attempts fail
	const tickets = 20
	s := prepareSite(t, env{"WORKER_MAX_ATTEMPTS": "30", "WORKER_RETRY_BASE": "10ms"})
	faults := omflowtest.Faults{Fail: 0.3}
	faults.Seed = s.seedThat(faults, func(f omflowtest.Faults) bool { return f.Fails(1, 1) })
	s.vars = merge(s.vars, env{"OMFLOWTEST_FAIL": "0.3", "OMFLOWTEST_SEED": strconv.FormatInt(faults.Seed, 10)})
	s.servers = append(s.servers, s.startServer("server-1"))
	// when tickets are filed
	s.file(tickets)
	// then all are closed, after exactly the attempts that were to fail
	s.finish()
	want := 0
	for row := range int64(tickets * omflowtest.Steps) {
		for attempt := 1; faults.Fails(row+1, attempt); attempt++ {
			want++
		}
	}
	s.checkAttempts("failed", "failed on purpose", want)
}

// deadStep is a line of `dead ls --json`.
type deadStep struct {
	ID       string `json:"id"`
	Reason   string `json:"reason"`
	Error    string `json:"error"`
	Attempts string `json:"attempts"`
}

func (s *site) dead() (ids []string, steps []deadStep) {
	s.t.Helper()
	steps = query[struct {
		Steps []deadStep `json:"steps"`
	}](s.t, s.booster, "dead", "ls", "--limit", "1000").Steps
	for _, d := range steps {
		ids = append(ids, d.ID)
	}
	slices.Sort(ids)
	return ids, steps
}

// rows are the identities of all rows of omflow_queuedata.
func (s *site) rows(ctx context.Context) (ids []string, err error) {
	err = s.db.SelectContext(ctx, &ids, `SELECT 'q' || id FROM omflow_queuedata`)
	slices.Sort(ids)
	return ids, err
}

// poisonedSite is a server at which some steps fail at every try, with that many tickets filed and everything done that can
// be. It returns the identities of the steps that cannot.
func poisonedSite(t *testing.T, tickets int) (s *site, poisoned []string) {
	t.Helper()
	s = prepareSite(t, env{"WORKER_MAX_ATTEMPTS": "2", "WORKER_RETRY_BASE": "10ms"})
	faults := omflowtest.Faults{Poison: 0.1}
	// The rows of the first steps are 1 to tickets, because they are all filed before a step is run.
	faults.Seed = s.seedThat(faults, func(f omflowtest.Faults) bool { return f.Fails(1, 1) && f.Fails(2, 1) && !f.Fails(3, 1) })
	s.vars = merge(s.vars, env{"OMFLOWTEST_POISON": "0.1", "OMFLOWTEST_SEED": strconv.FormatInt(faults.Seed, 10)})
	s.servers = append(s.servers, s.startServer("server-1"))
	s.file(tickets)
	testkit.Await(t, timeout, "every ticket to be closed or stuck", func(ctx context.Context) error {
		stuck, err := s.rows(ctx)
		if err != nil {
			return err
		}
		for _, id := range stuck {
			row, err := strconv.ParseInt(strings.TrimPrefix(id, "q"), 10, 64)
			if err != nil {
				return err
			}
			if !faults.Fails(row, 1) {
				return fmt.Errorf("%s is still to be done", id)
			}
		}
		poisoned = stuck
		if o, err := s.outcome(ctx); err != nil || o.work > 0 {
			return fmt.Errorf("messages on WORK: %d, %w", o.work, err)
		}
		return nil
	})
	return s, poisoned
}

func TestStepsThatAlwaysFailAreDeadUntilTheyAreRetried(t *testing.T) {
	t.Parallel()
	// given a server at which some steps always fail
	s, poisoned := poisonedSite(t, 20)
	// then exactly those are dead, with the reason, and their rows stay
	ids, steps := s.dead()
	if !slices.Equal(ids, poisoned) {
		t.Errorf("dead are %v, want %v", ids, poisoned)
	}
	for _, d := range steps {
		if d.Reason != "failed 2 times" || d.Error != "failed on purpose" || d.Attempts != "2" {
			t.Errorf("it died of something else: %+v", d)
		}
	}
	// when the fault is mended and they are retried
	w := s.servers[0].worker
	w.stop()
	w.vars["OMFLOWTEST_POISON"] = "0"
	w.restart()
	if code, out := command(t, s.booster, "dead", "retry", "--all"); code != 0 {
		t.Errorf("dead retry: code %d\n%s", code, out)
	}
	// then every ticket is closed
	s.finish()
}

func TestDeadStepsThatArePurgedAreGone(t *testing.T) {
	t.Parallel()
	// given a server at which some steps have died
	s, poisoned := poisonedSite(t, 10)
	// when purge is called without being sure, and with names of which one does not exist
	if code, out := command(t, s.booster, "dead", "purge", "--all"); code != 2 || !strings.Contains(out, "--yes") {
		t.Errorf("dead purge without --yes: code %d\n%s", code, out)
	}
	if code, out := command(t, s.booster, "dead", "purge", "--yes", poisoned[0], "q999999"); code != 1 ||
		!strings.Contains(out, "q999999 not dead") {
		t.Errorf("dead purge of a step that is not dead: code %d\n%s", code, out)
	}
	// then it has removed the one that is dead, and nothing else
	if ids, _ := s.dead(); !slices.Equal(ids, poisoned[1:]) {
		t.Errorf("dead are %v, want %v", ids, poisoned[1:])
	}
	// when all are purged
	if code, out := command(t, s.booster, "dead", "purge", "--all", "--yes"); code != 0 {
		t.Errorf("dead purge: code %d\n%s", code, out)
	}
	// then their rows go as well, and nothing is left that could bring them back; that they had no effect is on purpose
	testkit.Await(t, timeout, "rows and messages to go", func(ctx context.Context) error {
		o, err := s.outcome(ctx)
		if err == nil && o.Waiting+int(o.work+o.dead) > 0 {
			err = fmt.Errorf("it looks like this:%s", o)
		}
		return err
	})
	s.servers[0].stop()
	o, err := s.outcome(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if o.Lost != len(poisoned) || o.Effects != o.Accepted-len(poisoned) || o.Duplicates+o.Half > 0 {
		t.Errorf("%d steps were purged, and it looks like this:%s", len(poisoned), o)
	}
}
