package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/omflowtest/fleet"
)

// haResult is what came out of the story of the takeovers.
type haResult struct {
	tally
	events    []event
	writes    int   // of the probe, acknowledged
	writesErr error // what is wrong with them
	people    fleet.FeedTally
}

func (s *haStory) count(ctx context.Context, took time.Duration) (*haResult, error) {
	r := &haResult{events: s.events, people: s.feed.Tally()}
	accepted, err := s.probe.Accepted()
	r.writes, r.writesErr = len(accepted), err
	r.tally, err = s.tally(ctx, took)
	return r, err
}

// check says what is not as it must be.
func (r *haResult) check() error {
	errs := []error{r.tally.check(r.counts.Tickets), r.people.Check(r.counts.Tickets), r.writesErr}
	if len(r.events) == 0 {
		errs = append(errs, errors.New("nothing has happened"))
	}
	for _, e := range r.events {
		if e.gap > e.limit {
			errs = append(errs, fmt.Errorf("%s: no write was accepted for %s, which is longer than %s", e.what, seconds(e.gap), e.limit))
		}
	}
	return errors.Join(errs...)
}

// table is the end of the demo.
func (r *haResult) table(in *installation) string {
	var b strings.Builder
	fmt.Fprintln(&b)
	b.WriteString(r.tally.table())
	fmt.Fprintln(&b)
	tw := tabwriter.NewWriter(&b, 0, 4, 3, ' ', 0)
	fmt.Fprintf(tw, "  EVENT\tNO WRITES FOR\tLIMIT\tOVER AFTER\n")
	for _, e := range r.events {
		fmt.Fprintf(tw, "  %s\t%s\t%s\t%s\n", e.what, seconds(e.gap), e.limit, seconds(e.heal))
	}
	_ = tw.Flush()
	b.WriteString(lookInside(in))
	return endBlanks.ReplaceAllString(b.String(), "")
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
