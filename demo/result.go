package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
)

// result is what came out of the story of the patch.
type result struct {
	tally
	shares   map[string]int
	versions map[string]string
	killed   string
}

func (s *story) count(ctx context.Context) (*result, error) {
	r := &result{shares: map[string]int{}, versions: map[string]string{}, killed: s.victim.Name}
	var err error
	if r.tally, err = s.tally(ctx, s.closed.Sub(s.began)); err != nil {
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
	return r, nil
}

// check says what is not as it must be.
func (r *result) check(tickets int) error {
	errs := []error{r.tally.check(tickets)}
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

// table is the end of the demo.
func (r *result) table(in *installation) string {
	var b strings.Builder
	b.WriteString(r.tally.table())
	tw := tabwriter.NewWriter(&b, 0, 4, 3, ' ', 0)
	fmt.Fprintf(tw, "  SERVER\tSTEPS\tSHARE\tVERSION\n")
	for _, s := range in.servers {
		remark := ""
		if s.name == r.killed {
			remark = "worker killed and back"
		}
		steps := r.shares[s.name]
		fmt.Fprintf(tw, "  %s\t%s\t%.0f %%\t%s\t%s\n", s.name, thousands(steps), 100*float64(steps)/float64(max(r.counts.Effects, 1)),
			r.versions[s.name], remark)
	}
	_ = tw.Flush()
	b.WriteString(lookInside(in))
	return endBlanks.ReplaceAllString(b.String(), "")
}
