package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/leaktest"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest/fleet"
	"github.com/omflow-booster/omflow-booster/internal/pgtest"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
)

// The test binary is also what the demo starts as its processes.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1][0] != '-' {
		main()
	}
	leaktest.Main(m)
}

const tickets = 80 // enough for a kill and a patch in the middle of it

func TestDemoOnSQLite(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	require.Contains(t, show(t), "on SQLite")
}

func TestDemoOnPostgreSQL(t *testing.T) {
	url := pgtest.New(t)
	pgtest.OMFLOWTables(t, url)
	pgtest.Exec(t, url,
		`INSERT INTO omflow_queuedata (queue_id, name, module_name, method_name, input_param) VALUES ('real', 'n', 'm', 'f', '{}')`)
	t.Setenv("DATABASE_URL", url)
	require.Contains(t, show(t), "on PostgreSQL")

	db, err := sqldb.Open(t.Context(), url, engines())
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	var kept, schemas, tables int
	require.NoError(t, db.GetContext(t.Context(), &kept, `SELECT count(*) FROM omflow_queuedata WHERE queue_id = 'real'`))
	require.NoError(t, db.GetContext(t.Context(), &schemas, `SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'omflow_demo%'`))
	require.NoError(t, db.GetContext(t.Context(), &tables, `SELECT count(*) FROM pg_tables WHERE schemaname = 'public'`))
	require.Equal(t, []int{1, 0, 1}, []int{kept, schemas, tables}, "what was there is untouched, what came is gone")
}

// show runs a short demo and checks that it leaves nothing behind.
func show(t *testing.T) string {
	tmp, out, read := scratch(t)
	failed := run(context.WithoutCancel(t.Context()), newScreen(out), options{tickets: tickets})
	shown := read()
	require.NoError(t, failed, shown)
	for _, text := range []string{
		"kill -9", "has started its worker again", "patch 1.1.4.1 published on server-1", "server-1 is patched", "server-2 is patched",
		"server-3 is patched", "640   steps of 80 tickets", "0 lost, 0 twice", "worker killed and back",
	} {
		require.Contains(t, shown, text)
	}
	left, err := os.ReadDir(tmp)
	require.NoError(t, err)
	require.Empty(t, left)
	return shown
}

// scratch makes a directory for what the demo makes, and a file for what it shows.
func scratch(t *testing.T) (tmp string, out *os.File, read func() string) {
	out, err := os.CreateTemp(t.TempDir(), "shown")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, out.Close()) })
	tmp, err = os.MkdirTemp("", "d") //nolint:usetesting // the name of the other is too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(tmp)) })
	t.Setenv("TMPDIR", tmp)
	return tmp, out, func() string {
		shown, err := os.ReadFile(out.Name())
		require.NoError(t, err)
		return string(shown)
	}
}

func TestAStopEndsEverything(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	tmp, out, read := scratch(t)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, newScreen(out), options{tickets: tickets}) }()
	require.Eventually(t, func() bool { return strings.Contains(read(), "filing tickets") }, startLimit, glance)
	stop()
	require.ErrorIs(t, <-ended, context.Canceled)
	left, err := os.ReadDir(tmp)
	require.NoError(t, err)
	require.Empty(t, left)
}

// Each count that is off must fail the demo.
func TestResultIsChecked(t *testing.T) {
	t.Parallel()
	good := func() *result {
		return &result{
			tally:    tally{counts: omflowtest.Counts{Tickets: 10, Accepted: 80, Effects: 80}},
			shares:   map[string]int{"a": 40, "b": 40},
			versions: map[string]string{"a": newVersion, "b": newVersion},
		}
	}
	require.NoError(t, good().check(10))
	for says, spoil := range map[string]func(r *result){
		"steps had their effect": func(r *result) { r.counts.Effects, r.counts.Waiting = 79, 1 },
		"more than once":         func(r *result) { r.counts.Duplicates = 1 },
		"are lost":               func(r *result) { r.counts.Lost = 1 },
		"tickets were filed":     func(r *result) { r.counts.Tickets = 11 },
		"are dead":               func(r *result) { r.dead = 2 },
		"b did nothing":          func(r *result) { delete(r.shares, "b") },
		"a runs version 1.1.4.0": func(r *result) { r.versions["a"] = oldVersion },
	} {
		r := good()
		spoil(r)
		require.ErrorContains(t, r.check(10), says)
	}
}

// Each count and gap that is off must fail the demo of two Boosters.
func TestTakeoverResultIsChecked(t *testing.T) {
	t.Parallel()
	good := func() *haResult {
		return &haResult{
			tally:  tally{counts: omflowtest.Counts{Tickets: 10, Accepted: 80, Effects: 80}},
			events: []event{{what: "a kill", gap: killLimit, limit: killLimit}},
			people: fleet.FeedTally{Filed: 9, Failed: 2},
		}
	}
	require.NoError(t, good().check())
	for says, spoil := range map[string]func(r *haResult){
		"more than once":          func(r *haResult) { r.counts.Duplicates = 1 },
		"are dead":                func(r *haResult) { r.dead = 1 },
		"have confirmed 11":       func(r *haResult) { r.people.Filed = 11 },
		"left 0 requests":         func(r *haResult) { r.people.Failed = 0 },
		"which is longer than 10": func(r *haResult) { r.events[0].gap++ },
		"nothing has happened":    func(r *haResult) { r.events = nil },
		"probe":                   func(r *haResult) { r.writesErr = errors.New("probe") },
		"0 tickets are in":        func(r *haResult) { *r = haResult{events: r.events} },
	} {
		r := good()
		spoil(r)
		require.ErrorContains(t, r.check(), says)
	}
}

// Each count, server and outcome that is off must fail the demo of changed files.
func TestPatchResultIsChecked(t *testing.T) {
	t.Parallel()
	good := func() *patchResult {
		r := &patchResult{
			tally:  tally{counts: omflowtest.Counts{Tickets: 10, Accepted: 80, Effects: 80}},
			people: fleet.FeedTally{Filed: 9, Failed: 2}, most: 1,
		}
		for i, second := range []string{outcomeOld, outcomeUntouched, outcomeBad, outcomeUntouched, outcomeUntouched} {
			r.hosts = append(r.hosts, hostResult{
				name: string(rune('a' + i)), changed: i == handed, steps: 16, version: newVersion, second: second,
				first: first{had: 2 * time.Second, away: time.Second},
			})
		}
		r.hosts[handed].first.had = time.Second
		r.hosts = append(r.hosts, hostResult{name: "f", fresh: true, steps: 1, version: newVersion})
		return r
	}
	require.NoError(t, good().check())
	for says, spoil := range map[string]func(r *patchResult){
		"are lost":                            func(r *patchResult) { r.counts.Lost = 1 },
		"more than once":                      func(r *patchResult) { r.counts.Duplicates = 1 },
		"are dead":                            func(r *patchResult) { r.dead = 1 },
		"have confirmed 11":                   func(r *patchResult) { r.people.Filed = 11 },
		"2 servers were away":                 func(r *patchResult) { r.most = 2 },
		"0 servers were away":                 func(r *patchResult) { r.most = 0 },
		"5 servers are there":                 func(r *patchResult) { r.hosts = r.hosts[:patchServers] },
		"a runs version 1.1.4.2":              func(r *patchResult) { r.hosts[0].version = badVersion },
		"f did nothing":                       func(r *patchResult) { r.hosts[patchServers].steps = 0 },
		"b did not get the first change":      func(r *patchResult) { r.hosts[1].first.had = 0 },
		"b had the first change before":       func(r *patchResult) { r.hosts[1].first.had = time.Second },
		"b was not seen to restart":           func(r *patchResult) { r.hosts[1].first.away = 0 },
		"of the second change became":         func(r *patchResult) { r.hosts[1].second = outcomeOld },
		`"untouched" on c, where it was made`: func(r *patchResult) { r.hosts[handed].second, r.hosts[1].second = outcomeUntouched, outcomeBad },
		"0 of 88 steps":                       func(r *patchResult) { r.counts = omflowtest.Counts{Tickets: 11} },
	} {
		r := good()
		spoil(r)
		require.ErrorContains(t, r.check(), says)
	}
}
