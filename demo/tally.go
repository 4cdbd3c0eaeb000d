package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
)

// tally is what every story is measured by. Each number is counted where it cannot be wrong: effects in SQL, deliveries in the
// Booster. What the workers say of themselves is not used, because one may be killed and its counters with it.
type tally struct {
	counts      omflowtest.Counts
	redelivered int
	dead        int
	took        time.Duration
}

func (s *stage) tally(ctx context.Context, took time.Duration) (t tally, err error) {
	t.took = took
	if t.counts, err = omflowtest.Count(ctx, s.db.DB); err != nil {
		return t, err
	}
	work, err := s.client.JS.Stream(ctx, bus.StreamWork)
	if err != nil {
		return t, err
	}
	workers, err := s.client.JS.Consumer(ctx, bus.StreamWork, bus.ConsumerWorkers)
	if err != nil {
		return t, err
	}
	// WORK is empty and every message of it was delivered: what was delivered beyond that was delivered again.
	t.redelivered = int(workers.CachedInfo().Delivered.Consumer) - int(work.CachedInfo().State.LastSeq)
	dead, err := s.client.JS.Stream(ctx, bus.StreamDead)
	if err != nil {
		return t, err
	}
	t.dead = int(dead.CachedInfo().State.Msgs)
	return t, nil
}

// check says what is not as it must be.
func (t tally) check(tickets int) error {
	err := t.counts.CheckFinished(tickets)
	if t.dead != 0 {
		err = errors.Join(err, fmt.Errorf("%d steps are dead", t.dead))
	}
	return err
}

var endBlanks = regexp.MustCompile(`(?m) +$`) // which tabwriter leaves behind short lines

func (t tally) table() string {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 4, 3, ' ', 0)
	line := func(name string, n int, remark string) {
		fmt.Fprintf(tw, "  %s\t%8s\t%s\n", name, thousands(n), remark)
	}
	line("accepted", t.counts.Accepted, fmt.Sprintf("steps of %d tickets", t.counts.Tickets))
	line("done", t.counts.Effects, fmt.Sprintf("effects in SQL: %d lost, %d twice", t.counts.Lost, t.counts.Duplicates))
	line("redelivered", t.redelivered, "after kill -9, or handed on for the patch")
	line("dead", t.dead, "")
	line("steps/s", int(float64(t.counts.Effects)/t.took.Seconds()), fmt.Sprintf("in %.1f s, with all that happened", t.took.Seconds()))
	_ = tw.Flush()
	return b.String()
}

// lookInside says how to see more of it while it runs.
func lookInside(in *installation) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nLook inside (with --keep):\n")
	for _, command := range []string{
		"stream ls", "consumer info " + bus.StreamWork + " " + bus.ConsumerWorkers, "kv ls " + bus.BucketNodes, "micro ls",
	} {
		fmt.Fprintf(&b, "  nats -s %s %s\n", in.url(), command)
	}
	fmt.Fprintf(&b, "  %s go run . status\n", strings.Join(in.address()[1:], " "))
	return b.String()
}
