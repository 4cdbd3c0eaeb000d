//go:build linux

package test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
	"github.com/omflow-booster/omflow-booster/internal/work"
)

// A Booster that grows is killed at each stage. It can go on from there, and it can go back.
func TestGrowthIsKilledAtEachStage(t *testing.T) {
	t.Parallel()
	// given a Booster that was in use
	g := startSingle(t, firstSteps(killSteps+growDead), nil)
	before := g.contents(g.first)
	back := func() {
		t.Helper()
		g.startFirst()
		g.checkSame("back to one Booster", before, g.contents(g.first))
		g.first.stop()
	}
	g.first.stop()

	// when it is killed while the other Booster is not there yet, and then is to be a single one again
	for _, stage := range []struct {
		name    string
		reached func(growState) bool
	}{
		{"the snapshot has begun", func(s growState) bool { return s.snapshot == "begun" }},
		{"the snapshot is whole", func(s growState) bool { return s.snapshot == "whole" }},
		{"the snapshot is noted", func(s growState) bool { return s.Growth != "" }},
		{"the old store is set aside", func(s growState) bool { return s.old }},
	} {
		g.grow()
		g.killWhen(stage.name, stage.reached)
		// then it has everything
		back()
	}

	// and also when the other Booster has taken a part
	g.second.again()
	restoring := func(s growState) bool { return s.has(bus.StreamWork) }
	g.grow()
	g.killWhen("the queue is being restored", restoring)
	back()

	// when it is killed at each stage again, and goes on, while a worker takes what it can get
	worker, err := bus.Connect(g.second.only(), "worker", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(worker.Close)
	for _, stage := range []struct {
		name    string
		reached func(growState) bool
	}{
		{"the snapshot has begun", func(s growState) bool { return s.snapshot == "begun" }},
		{"the snapshot is whole", func(s growState) bool { return s.snapshot == "whole" }},
		{"the old store is set aside", func(s growState) bool { return s.old }},
		{"the queue is being restored", restoring},
		{"a step has been run before the last stream is restored", func(s growState) bool {
			return s.Growth != "" && s.has(bus.StreamWork) && g.run(worker, before[bus.StreamWork])
		}},
		{"the growth is noted as done", func(s growState) bool { return s.Growth == "" && s.Mode == "cluster" }},
	} {
		g.grow()
		g.killWhen(stage.name, stage.reached)
	}
	g.first.again()
	g.first.waitReady()
	g.second.waitReady()

	// then both Boosters have everything, and nothing of the single life is left
	for _, b := range g.boosters {
		g.checkSame("in the copy of "+b.name, before, g.contents(b))
	}
	if s := g.state(); s.old || s.snapshot != "none" || s.Growth != "" {
		t.Errorf("something is left of the growth: %s", s)
	}
}

// A Booster with many waiting steps grows while people go on filing tickets and workers run whatever they get.
func TestOneBoosterGrowsUnderLoad(t *testing.T) {
	t.Parallel()
	// given a Booster with many waiting steps, and two servers that work on them
	s := emptySite(t, env{"BOOSTER_LEASE": "3s", "WORKER_RECONCILE": "2s"})
	items := firstSteps(growSteps + growDead)
	fileAtOnce(t, s.database, items)
	g := startSingle(t, items, s.vars)
	g.first.second, g.second.second = g.second, g.first
	s.booster = g.first
	for i := range 2 {
		s.servers = append(s.servers, s.startServer("server-"+strconv.Itoa(i+1)))
	}
	s.fileTickets()
	s.afterSteps(20)

	// when it grows, and is killed near the end of that
	g.first.stop()
	s.afterTickets(3)
	g.second.again()
	g.grow()
	g.killWhen("the last stream is being restored", func(s growState) bool { return s.has("KV_" + bus.BucketControl) })
	s.afterTickets(3)
	began := time.Now()
	g.grow()
	testkit.Await(t, growTimeout, "the end of the growth", func(context.Context) error {
		if now := g.state(); now.Mode != "cluster" || now.Growth != "" {
			return fmt.Errorf("it has %s", now)
		}
		return nil
	})
	g.first.waitReady()
	t.Logf("grown with %d steps waiting, %.1f s after its start", s.must(`SELECT count(*) FROM omflow_queuedata`), time.Since(began).Seconds())
	s.afterSteps(20)

	// then a witness makes three copies, and the patch that was published before has arrived there
	joinPair(t, g.pair)
	testkit.Await(t, growTimeout, "both Boosters to be there", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, lookLimit)
		defer cancel()
		nodes, err := bus.Nodes(ctx, g.bus.JS)
		there := 0
		for _, n := range nodes {
			if n.Booster != nil {
				there++
			}
		}
		if err == nil && there < len(g.boosters) {
			err = fmt.Errorf("%d are", there)
		}
		return err
	})
	home := dir(t)
	agent := startAgent(t, "agent-1", g.first, home, merge(witnessEnv(t), env{"AGENT_WORKER": "off", "AGENT_RESTART_MIN": "100ms"}))
	testkit.Await(t, growTimeout, "the patch to be applied", func(ctx context.Context) error {
		state, err := agent.state(ctx)
		if err == nil && state.HomeVersion != newVersion {
			err = fmt.Errorf("the home has version %q", state.HomeVersion)
		}
		return err
	})
	g.healed(time.Now()) // after the patch: its host is not disturbed before all copies are there
	s.afterSteps(20)

	// and every step was either run once or waits, those from before in their old places
	s.load.Stop()
	for _, srv := range s.servers {
		srv.stop()
	}
	checkGrown(t, s, g.contents(g.first))
}

// fileAtOnce commits tickets with the rows of their first steps, as omflowtest.File does, but in bulk.
func fileAtOnce(t *testing.T, database string, items []work.Item) {
	t.Helper()
	ctx := t.Context()
	db, err := pgx.Connect(ctx, database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close(ctx) }()
	for table, columns := range map[string][]string{
		"omflow_queuedata":    {"id", "queue_id", "name", "module_name", "method_name", "input_param"},
		"omflowtest_ticket":   {"no", "server"},
		"omflowtest_accepted": {"row_id", "ticket", "step"},
	} {
		row := func(i int) ([]any, error) {
			no, it := int64(i)+1, items[i]
			switch table {
			case "omflow_queuedata":
				return []any{no, it.QueueID, it.Name, it.ModuleName, it.MethodName, string(it.InputParam)}, nil
			case "omflowtest_ticket":
				return []any{no, "before"}, nil
			default:
				return []any{no, no, 1}, nil
			}
		}
		if _, err := db.CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromSlice(len(items), row)); err != nil {
			t.Fatalf("fill %s: %s", table, err)
		}
	}
	for table, column := range map[string]string{"omflow_queuedata": "id", "omflowtest_ticket": "no"} {
		if _, err := db.Exec(ctx, fmt.Sprintf(`SELECT setval(pg_get_serial_sequence('%s', '%s'), %d)`, table, column, len(items))); err != nil {
			t.Fatal(err)
		}
	}
}

// checkGrown compares the table with the queue when nobody works any more.
func checkGrown(t *testing.T, s *site, after map[string]copyOfStream) {
	t.Helper()
	counts, err := omflowtest.Count(t.Context(), s.db)
	if err != nil {
		t.Fatal(err)
	}
	if err := counts.Check(); err != nil {
		t.Error(err)
	}
	var rows []int64
	if err := s.db.SelectContext(t.Context(), &rows, `SELECT id FROM omflow_queuedata`); err != nil {
		t.Fatal(err)
	}
	places := map[int64]uint64{} // row → place in WORK
	for place, m := range after[bus.StreamWork] {
		id, err := work.ParseID(bus.SubjectID(m.subject))
		if err != nil || places[id.Row] != 0 {
			t.Errorf("message %d of %s is %s: %v", place, bus.StreamWork, m.subject, err)
		}
		places[id.Row] = place
	}
	missing, moved := 0, 0
	for _, row := range rows {
		switch place, there := places[row]; {
		case row <= growSteps && place != uint64(row): // they were queued in this order
			moved++
		case row > growSteps+growDead && !there:
			missing++
		}
	}
	t.Logf("%d tickets, %d steps accepted, %d run, %d waiting; %d messages on %s, %d on %s, %d rows of the last moment without one",
		counts.Tickets, counts.Accepted, counts.Effects, counts.Waiting, len(places), bus.StreamWork, len(after[bus.StreamDead]),
		bus.StreamDead, missing)
	if moved > 0 {
		t.Errorf("%d steps from before the growth are not in their places", moved)
	}
	if len(after[bus.StreamDead]) != growDead {
		t.Errorf("%d steps are dead, want %d", len(after[bus.StreamDead]), growDead)
	}
	if counts.Effects == 0 {
		t.Error("no step was run: there was no load")
	}
}
