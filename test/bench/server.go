package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

const serverHelp = `Measure waiting steps of the stand-in for the OMFLOW Server, under real Django: the server's own threads beside a worker with runners.

  go run . server [flags]

Example, the short form and the one for a document:
  go run . server --history 2000 --tickets 50 --rounds 1
  go run . server --json >server.json

Flags:
`

// variant is one line of the table: who runs steps, on which database.
type variant struct {
	Server  string    `json:"server"` // stock or ours
	Indexed bool      `json:"indexed"`
	Rounds  []drained `json:"rounds"`
	Rate    float64   `json:"steps_per_s"` // medians
	CPU     float64   `json:"cpu_ms_per_step"`
	Ratio   *ratios   `json:"ratio_to_stock,omitempty"` // medians of those within a round
}

type ratios struct {
	Rate     float64 `json:"steps_per_s"`
	CPU      float64 `json:"cpu_ms_per_step"`
	Database float64 `json:"postgresql"`
}

type serverReport struct {
	Machine  machine    `json:"machine"`
	History  int        `json:"tickets_of_history"`
	Tickets  int        `json:"tickets"`
	Slots    int        `json:"slots"`
	Variants []*variant `json:"variants"`
}

// bareShare is how many fewer tickets are run without indexes, where each step reads tables as a whole.
const bareShare = 5

func runServer(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench server", flag.ContinueOnError)
	var (
		rounds  = flags.Int("rounds", 5, "rounds; the order changes from one to the next, and medians are shown")
		tickets = flags.Int("tickets", 400, "tickets of 8 steps that wait; without indexes a fifth of it")
		history = flags.Int("history", 60_000, "tickets that the database holds already, each with 4 rows of value history and a mission")
		slots   = flags.Int("slots", 2, "runners")
		limit   = flags.Duration("limit", 10*time.Minute, "how long one measurement may take")
		binary  = flags.String("binary", "", "omflow-booster to measure; default: the one of this checkout, built now")
		debug   = flags.Bool("debug", false, "Django's DEBUG, which OMFLOW is installed with: it keeps every statement")
		asJSON  = flags.Bool("json", false, "print every round as JSON")
	)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), serverHelp)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || *rounds < 1 || *tickets < 2*bareShare || *history < 0 || *slots < 1 {
		return errors.New("wrong usage; see --help")
	}
	s, h, err := openServer(ctx, *binary)
	if err != nil {
		return err
	}
	defer s.close()
	h.debug = *debug
	rep := &serverReport{History: *history, Tickets: *tickets, Slots: *slots}
	for _, indexed := range []bool{false, true} {
		if err := h.template(ctx, templateOf(indexed), *history, indexed); err != nil {
			return err
		}
		rep.Variants = append(rep.Variants, &variant{Server: "stock", Indexed: indexed}, &variant{Server: "ours", Indexed: indexed})
	}
	loads := []float64{}
	for round := range *rounds {
		for _, i := range order(len(rep.Variants), round) {
			v := rep.Variants[i]
			d, err := v.measure(ctx, h, *tickets, *slots, *limit)
			if err != nil {
				return fmt.Errorf("%s, indexed %t: %w", v.Server, v.Indexed, err)
			}
			fmt.Fprintf(os.Stderr, "round %d of %d, %s, indexed %t, load %.1f: %.1f steps/s, CPU ms a step: %s\n",
				round+1, *rounds, v.Server, v.Indexed, d.Load, d.Rate, d.each())
			v.Rounds, loads = append(v.Rounds, d), append(loads, d.Load)
		}
	}
	rep.Machine = describe(s, append(loads, loadAverage()))
	rep.conclude()
	if *asJSON {
		return indented(os.Stdout, rep)
	}
	return rep.table(os.Stdout)
}

// openServer opens a site with a home of the stand-in.
func openServer(ctx context.Context, binary string) (*site, *home, error) {
	program, err := python(ctx)
	if err != nil {
		return nil, nil, err
	}
	s, err := openSite(ctx, []string{needsPostgres, needsBooster}, binary)
	if err != nil {
		return nil, nil, err
	}
	h, err := newHome(s, program)
	if err != nil {
		s.close()
		return nil, nil, err
	}
	return s, h, nil
}

func templateOf(indexed bool) string { return fmt.Sprintf("template_indexed_%t", indexed) }

func (v *variant) measure(ctx context.Context, h *home, tickets, slots int, limit time.Duration) (drained, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took longer than %s (--limit)", limit))
	defer cancel()
	var srv system = &stock{home: h}
	if v.Server == "ours" {
		srv = &boosted{site: h.site, homes: []*home{h}, slots: slots}
	}
	if !v.Indexed {
		tickets /= bareShare
	}
	return drain(ctx, h.site, srv, templateOf(v.Indexed), tickets)
}

func (d drained) each() string {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(d.CPU)) {
		fmt.Fprintf(&text, "%s %.2f, ", name, d.CPU[name])
	}
	return text.String() + fmt.Sprintf("together %.2f", d.together())
}

func (r *serverReport) conclude() {
	for i, v := range r.Variants {
		v.Rate = median(each(v.Rounds, func(d drained) float64 { return d.Rate }))
		v.CPU = median(each(v.Rounds, drained.together))
		if v.Server == "stock" {
			continue
		}
		base := r.Variants[i-1].Rounds // stock on the same database
		against := func(of func(drained) float64) float64 {
			list := make([]float64, len(v.Rounds))
			for n := range list {
				list[n] = of(v.Rounds[n]) / of(base[n])
			}
			return median(list)
		}
		v.Ratio = &ratios{
			Rate: against(func(d drained) float64 { return d.Rate }), CPU: against(drained.together),
			Database: against(func(d drained) float64 { return d.CPU["postgresql"] }),
		}
	}
}

func (r *serverReport) table(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	parts := []string{"web", "runners", "worker", "booster", "postgresql"}
	fmt.Fprintf(w, "\tsteps/s\tCPU ms a step\t%s\tothers, cores\n", strings.Join(parts, "\t"))
	for _, v := range r.Variants {
		database := "as installed"
		if v.Indexed {
			database = "indexed"
		}
		fmt.Fprintf(w, "%s, %s\t%s", v.Server, database, figure(v.Rate))
		if v.Ratio != nil {
			fmt.Fprintf(w, " (%.2f)\t%s (%.2f)", v.Ratio.Rate, figure(v.CPU), v.Ratio.CPU)
		} else {
			fmt.Fprintf(w, "\t%s", figure(v.CPU))
		}
		for _, part := range parts {
			used := median(each(v.Rounds, func(d drained) float64 { return d.CPU[part] }))
			text := "–"
			if used > 0 {
				text = figure(used)
			}
			if part == "postgresql" && v.Ratio != nil {
				text += fmt.Sprintf(" (%.2f)", v.Ratio.Database)
			}
			fmt.Fprintf(w, "\t%s", text)
		}
		fmt.Fprintf(w, "\t%.1f\n", median(each(v.Rounds, func(d drained) float64 { return d.Other })))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\nMedians of %d rounds, %d tickets of %d steps (as installed a fifth), %d tickets of history, %d runners.\n"+
		"In brackets: ratio to stock on the same database, median of the rounds. The middle 80 %% of the steps count.\n%s\n",
		len(r.Variants[0].Rounds), r.Tickets, stepsEach, r.History, r.Slots, r.Machine)
	return err
}
