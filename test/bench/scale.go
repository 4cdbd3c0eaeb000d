package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

const scaleHelp = `Measure how steps of the stand-in for the OMFLOW Server grow with hosts. A host is a worker with its runners in a cgroup that may
use a share of one core. The Booster and PostgreSQL are outside of it. Needs root.

  go run . scale [flags]

Example, the short form and the one for a document:
  go run . scale --share 10 --tickets 20 --rounds 1
  go run . scale --share 20 --json >scale.json

With --database 15 PostgreSQL may use 15 percent of a core: the more hosts, the sooner it is full.

Flags:
`

type scaleReport struct {
	Machine  machine   `json:"machine"`
	Share    int       `json:"percent_of_a_core_per_host"`
	Database int       `json:"percent_of_a_core_for_postgresql,omitempty"`
	History  int       `json:"tickets_of_history"`
	Tickets  int       `json:"tickets_per_host"`
	Hosts    []*hosted `json:"hosts"`
}

// hosted is one line of the table.
type hosted struct {
	Hosts    int       `json:"hosts"`
	Rounds   []drained `json:"rounds"`
	Rate     float64   `json:"steps_per_s"`              // median
	Linear   float64   `json:"share_of_linear"`          // of what so many times the first line is, median of the rounds
	Database float64   `json:"postgresql_cores"`         // used, median
	PerCore  float64   `json:"steps_per_s_per_database"` // steps a second that a full core of PostgreSQL would carry, median
}

func runScale(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench scale", flag.ContinueOnError)
	var (
		counts   = flags.String("hosts", "1,2,4", "how many hosts, in turn")
		share    = flags.Int("share", 20, "percent of one core that a host may use")
		database = flags.Int("database", 0, "percent of one core that PostgreSQL may use; 0: all it gets")
		rounds   = flags.Int("rounds", 5, "rounds; the order changes from one to the next, and medians are shown")
		tickets  = flags.Int("tickets", 60, "tickets of 8 steps that wait, for each host")
		history  = flags.Int("history", 60_000, "tickets that the database holds already; with the three indexes")
		slots    = flags.Int("slots", 2, "runners of a host")
		limit    = flags.Duration("limit", 10*time.Minute, "how long one measurement may take")
		binary   = flags.String("binary", "", "omflow-booster to measure; default: the one of this checkout, built now")
		asJSON   = flags.Bool("json", false, "print every round as JSON")
	)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), scaleHelp)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	rep := &scaleReport{Share: *share, Database: *database, History: *history, Tickets: *tickets}
	for text := range strings.SplitSeq(*counts, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("--hosts: %q is no number of hosts", text)
		}
		rep.Hosts = append(rep.Hosts, &hosted{Hosts: n})
	}
	if flags.NArg() > 0 || *rounds < 1 || *tickets < 2 || *history < 0 || *slots < 1 || *share < 5 || *database < 0 {
		return errors.New("wrong usage; see --help")
	}
	s, h, err := openServer(ctx, *binary)
	if err != nil {
		return err
	}
	defer s.close()
	if err := h.template(ctx, templateOf(true), *history, true); err != nil {
		return err
	}
	if *database > 0 {
		group, err := newCgroup("postgresql", *database)
		if err != nil {
			return err
		}
		defer func() { s.postgres.end(); _ = group.remove() }()
		if err := group.add(s.postgres.pid()); err != nil { // its connections are made later, and inherit the limit
			return err
		}
	}
	loads := []float64{}
	for round := range *rounds {
		for _, i := range order(len(rep.Hosts), round) {
			of := rep.Hosts[i]
			d, err := of.measure(ctx, h, scaling{*share, *slots, *tickets * of.Hosts, *limit})
			if err != nil {
				return fmt.Errorf("%d hosts: %w", of.Hosts, err)
			}
			fmt.Fprintf(os.Stderr, "round %d of %d, %d hosts, load %.1f: %.1f steps/s, CPU ms a step: %s\n",
				round+1, *rounds, of.Hosts, d.Load, d.Rate, d.each())
			of.Rounds, loads = append(of.Rounds, d), append(loads, d.Load)
		}
	}
	rep.Machine = describe(s, append(loads, loadAverage()))
	rep.conclude()
	if *asJSON {
		return indented(os.Stdout, rep)
	}
	return rep.table(os.Stdout)
}

type scaling struct {
	share, slots, tickets int
	limit                 time.Duration
}

func (of *hosted) measure(ctx context.Context, h *home, cfg scaling) (d drained, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.limit, fmt.Errorf("it took longer than %s (--limit)", cfg.limit))
	defer cancel()
	b := &boosted{site: h.site, slots: cfg.slots}
	defer func() {
		for _, group := range b.limits {
			err = errors.Join(err, group.remove())
		}
	}()
	for i := range of.Hosts {
		host, err := newHome(h.site, h.python)
		if err != nil {
			return d, err
		}
		group, err := newCgroup("host-"+strconv.Itoa(i+1), cfg.share)
		if err != nil {
			return d, err
		}
		b.homes, b.limits = append(b.homes, host), append(b.limits, group)
	}
	return drain(ctx, h.site, b, templateOf(true), cfg.tickets)
}

func (r *scaleReport) conclude() {
	base := r.Hosts[0]
	for _, of := range r.Hosts {
		of.Rate = median(each(of.Rounds, func(d drained) float64 { return d.Rate }))
		of.Database = median(each(of.Rounds, func(d drained) float64 { return d.Rate * d.CPU["postgresql"] / 1000 }))
		of.PerCore = median(each(of.Rounds, func(d drained) float64 { return 1000 / d.CPU["postgresql"] }))
		list := make([]float64, len(of.Rounds))
		for n := range list {
			list[n] = of.Rounds[n].Rate / base.Rounds[n].Rate * float64(base.Hosts) / float64(of.Hosts)
		}
		of.Linear = median(list)
	}
}

func (r *scaleReport) table(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "hosts\tsteps/s\tof linear\tPostgreSQL: cores used\tms a step\tsteps/s that a core carries\tBooster, ms a step\tothers, cores")
	for _, of := range r.Hosts {
		ms := func(part string) string {
			return figure(median(each(of.Rounds, func(d drained) float64 { return d.CPU[part] })))
		}
		fmt.Fprintf(w, "%d\t%s\t%.2f\t%.2f\t%s\t%s\t%s\t%.1f\n", of.Hosts, figure(of.Rate), of.Linear, of.Database, ms("postgresql"),
			figure(of.PerCore), ms("booster"), median(each(of.Rounds, func(d drained) float64 { return d.Other })))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	limit := ""
	if r.Database > 0 {
		limit = fmt.Sprintf(" PostgreSQL may use %d %% of a core.", r.Database)
	}
	_, err := fmt.Fprintf(out, "\nMedians of %d rounds. A host may use %d %% of a core.%s %d tickets of %d steps for each host, %d tickets of history.\n%s\n",
		len(r.Hosts[0].Rounds), r.Share, limit, r.Tickets, stepsEach, r.History, r.Machine)
	return err
}
