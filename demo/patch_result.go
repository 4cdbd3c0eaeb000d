package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest/fleet"
)

// patchResult is what came out of the story of the changed files.
type patchResult struct {
	tally
	people fleet.FeedTally
	hosts  []hostResult
	most   int // servers that were away at the same time
}

// hostResult is what is said of one server.
type hostResult struct {
	name    string
	changed bool // by hand
	fresh   bool // it came last, with an empty home
	steps   int
	version string
	first   first
	second  string // what became of the second change
}

func (s *patchStory) count(ctx context.Context, took time.Duration) (*patchResult, error) {
	r := &patchResult{people: s.feed.Tally(), most: s.watch.Most()}
	var err error
	if r.tally, err = s.tally(ctx, took); err != nil {
		return nil, err
	}
	shares, err := omflowtest.CountShares(ctx, s.db.DB)
	if err != nil {
		return nil, err
	}
	steps := map[string]int{}
	for _, share := range shares {
		steps[share.Server] = share.Effects
	}
	for i, server := range s.in.servers {
		h := hostResult{
			name: server.name, changed: i == handed, fresh: i >= patchServers, steps: steps[server.name],
			first: s.firsts[server.name], second: s.second[server.name],
		}
		if h.version, err = version(ctx, server); err != nil {
			return nil, fmt.Errorf("%s does not answer: %w", server.name, err)
		}
		r.hosts = append(r.hosts, h)
	}
	return r, nil
}

// check says what is not as it must be.
func (r *patchResult) check() error {
	errs := []error{r.tally.check(r.counts.Tickets), r.people.Check(r.counts.Tickets)}
	wrong := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	wrong(r.most != 1, "%d servers were away at the same time; one is wanted", r.most)
	wrong(len(r.hosts) != patchServers+1, "%d servers are there, not %d", len(r.hosts), patchServers+1)
	var source first
	outcomes := map[string]int{}
	for _, h := range r.hosts {
		if h.changed {
			source = h.first
			wrong(h.second != outcomeBad, "the second change is %q on %s, where it was made", h.second, h.name)
		}
		if !h.fresh {
			outcomes[h.second]++
		}
	}
	wrong(outcomes[outcomeBad] != 1 || outcomes[outcomeOld] != 1 || outcomes[outcomeUntouched] != patchServers-2,
		"of the second change became %v", outcomes)
	for _, h := range r.hosts {
		wrong(h.version != newVersion, "%s runs version %s, not %s", h.name, h.version, newVersion)
		wrong(h.steps == 0, "%s did nothing", h.name)
		wrong(!h.fresh && h.first.had <= 0, "%s did not get the first change", h.name)
		wrong(!h.fresh && !h.changed && h.first.had <= source.had, "%s had the first change before the server where it was made", h.name)
		wrong(!h.fresh && h.first.away <= 0, "%s was not seen to restart for the first change", h.name)
	}
	return errors.Join(errs...)
}

// table is the end of the demo.
func (r *patchResult) table(in *installation) string {
	var b strings.Builder
	fmt.Fprintln(&b)
	b.WriteString(r.tally.table())
	fmt.Fprintln(&b)
	tw := tabwriter.NewWriter(&b, 0, 4, 3, ' ', 0)
	fmt.Fprintf(tw, "  SERVER\tSTEPS\tSHARE\tVERSION\tHAD THE CHANGE AFTER\tAWAY FOR\tTHE CHANGE THAT FAILED\n")
	for _, h := range r.hosts {
		had, away, second := seconds(h.first.had), seconds(h.first.away), h.second
		if h.fresh {
			had, away, second = "with its files", "-", "came later"
		}
		fmt.Fprintf(tw, "  %s\t%s\t%.0f %%\t%s\t%s\t%s\t%s\n", h.name, thousands(h.steps),
			100*float64(h.steps)/float64(max(r.counts.Effects, 1)), h.version, had, away, second)
	}
	_ = tw.Flush()
	fmt.Fprintf(&b, "\n  most servers away at the same time: %d\n", r.most)
	b.WriteString(lookInside(in))
	return endBlanks.ReplaceAllString(b.String(), "")
}
