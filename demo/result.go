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

// result is what came out. Each number is counted where it cannot be wrong: effects in SQL, deliveries in the Booster. What
// the workers say of themselves is not used, because one was killed and its counters with it.
type result struct {
	counts      omflowtest.Counts
	shares      map[string]int
	versions    map[string]string
	redelivered int
	dead        int
	took        time.Duration
	killed      string
}

func (s *story) count(ctx context.Context) (*result, error) {
	r := &result{shares: map[string]int{}, versions: map[string]string{}, took: s.closed.Sub(s.began), killed: s.victim.Name}
	var err error
	if r.counts, err = omflowtest.Count(ctx, s.db.DB); err != nil {
		return nil, err
	}
	shares, err := omflowtest.CountShares(ctx, s.db.DB)
	if err != nil {
		return nil, err
	}
	for _, share := range shares {
		r.shares[share.Server] = share.Effects
	}
	for _, server := range s.in.servers {
		if r.versions[server.name], err = version(ctx, server); err != nil {
			return nil, fmt.Errorf("%s does not answer: %w", server.name, err)
		}
	}
	work, err := s.client.JS.Stream(ctx, bus.StreamWork)
	if err != nil {
		return nil, err
	}
	workers, err := s.client.JS.Consumer(ctx, bus.StreamWork, bus.ConsumerWorkers)
	if err != nil {
		return nil, err
	}
	// WORK is empty and every message of it was delivered: what was delivered beyond that was delivered again.
	r.redelivered = int(workers.CachedInfo().Delivered.Consumer) - int(work.CachedInfo().State.LastSeq)
	dead, err := s.client.JS.Stream(ctx, bus.StreamDead)
	if err != nil {
		return nil, err
	}
	r.dead = int(dead.CachedInfo().State.Msgs)
	return r, nil
}

// check says what is not as it must be.
func (r *result) check(tickets int) error {
	errs := []error{r.counts.CheckFinished(tickets)}
	if r.dead != 0 {
		errs = append(errs, fmt.Errorf("%d steps are dead", r.dead))
	}
	for name, version := range r.versions {
		if version != newVersion {
			errs = append(errs, fmt.Errorf("%s runs version %s, not %s", name, version, newVersion))
		}
		if r.shares[name] == 0 {
			errs = append(errs, fmt.Errorf("%s did nothing", name))
		}
	}
	return errors.Join(errs...)
}

var endBlanks = regexp.MustCompile(`(?m) +$`) // which tabwriter leaves behind short lines

// table is the end of the demo.
func (r *result) table(in *installation) string {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 4, 3, ' ', 0)
	line := func(name string, n int, remark string) {
		fmt.Fprintf(tw, "  %s\t%8s\t%s\n", name, thousands(n), remark)
	}
	fmt.Fprintln(&b)
	line("accepted", r.counts.Accepted, fmt.Sprintf("steps of %d tickets", r.counts.Tickets))
	line("done", r.counts.Effects, fmt.Sprintf("effects in SQL: %d lost, %d twice", r.counts.Lost, r.counts.Duplicates))
	line("redelivered", r.redelivered, "after kill -9, or handed on for the patch")
	line("dead", r.dead, "")
	line("steps/s", int(float64(r.counts.Effects)/r.took.Seconds()), fmt.Sprintf("in %.1f s, with all that happened", r.took.Seconds()))
	_ = tw.Flush()
	fmt.Fprintln(&b)
	tw = tabwriter.NewWriter(&b, 0, 4, 3, ' ', 0)
	fmt.Fprintf(tw, "  SERVER\tSTEPS\tSHARE\tVERSION\n")
	for _, s := range in.servers {
		remark := ""
		if s.name == r.killed {
			remark = "worker killed and back"
		}
		steps := r.shares[s.name]
		fmt.Fprintf(tw, "  %s\t%s\t%.0f %%\t%s\t%s\n", s.name, thousands(steps), 100*float64(steps)/float64(max(r.counts.Effects, 1)), r.versions[s.name], remark)
	}
	_ = tw.Flush()
	fmt.Fprintf(&b, "\nLook inside (with --keep):\n")
	for _, command := range []string{
		"stream ls", "consumer info " + bus.StreamWork + " " + bus.ConsumerWorkers, "kv ls " + bus.BucketNodes, "micro ls",
	} {
		fmt.Fprintf(&b, "  nats -s %s %s\n", in.url(), command)
	}
	fmt.Fprintf(&b, "  BOOSTER_PORT=%d go run . status\n", in.port)
	return endBlanks.ReplaceAllString(b.String(), "")
}
