// Command bench measures OMFLOW Booster beside job queues and beside the OMFLOW Server alone, on one machine in one run.
// README.md says how to read it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

const help = `Measure OMFLOW Booster beside job queues and beside the OMFLOW Server alone, on one machine in one run.

  go run . [flags]            the table of peers: steps that do nothing
  go run . server [flags]     the OMFLOW Server alone, and with OMFLOW Booster: steps of a stand-in under Django; see server --help
  go run . scale [flags]      hosts that are added, each with a part of a core; see scale --help

Example, the short form and the one for a document:
  go run . --steps 1000 --rounds 1
  go run . --rounds 5 --json >peers.json

Leave peers out by naming the others:
  go run . --peers ours-2,river

Flags:
`

func main() {
	if len(os.Args) > 1 && os.Args[1] == serveCommand {
		exit(serveJetStream(os.Args[2:]))
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	cancel()
	exit(err)
}

func exit(err error) {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "server":
			return runServer(ctx, args[1:])
		case "scale":
			return runScale(ctx, args[1:])
		}
	}
	return runPeers(ctx, args)
}

func runPeers(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	var (
		list    = flags.String("peers", "all", "which, of "+strings.Join(names(peers()), ","))
		rounds  = flags.Int("rounds", 5, "rounds; the order of the peers changes from one to the next, and medians are shown")
		steps   = flags.Int("steps", 4000, "steps in each phase; faster peers get a multiple")
		seconds = flags.Int("seconds", 10, "how long 200 steps a second are kept up, for the latency")
		limit   = flags.Duration("limit", 10*time.Minute, "how long one peer may take in one round")
		binary  = flags.String("binary", "", "omflow-booster to measure; default: the one of this checkout, built now")
		asJSON  = flags.Bool("json", false, "print every round as JSON")
	)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), help)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || *rounds < 1 || *steps < 1 || *seconds < 1 {
		return errors.New("wrong usage; see --help")
	}
	chosen, err := choose(*list)
	if err != nil {
		return err
	}
	var needs []string
	for _, p := range chosen {
		needs = append(needs, p.needs...)
	}
	s, err := openSite(ctx, needs, *binary)
	if err != nil {
		return err
	}
	defer s.close()

	outcomes, loads := make([]outcome, len(chosen)), []float64{}
	for i, p := range chosen {
		outcomes[i] = outcome{Name: p.name, Title: p.title, Rounds: make([]result, *rounds)}
	}
	for round := range *rounds {
		for _, i := range order(len(chosen), round) {
			r, err := measure(ctx, s, chosen[i], settings{*steps, *seconds, *limit})
			if err != nil {
				return fmt.Errorf("%s: %w", chosen[i].name, err)
			}
			fmt.Fprintf(os.Stderr, "round %d of %d, %s, load %.1f: enqueue %.0f/s, drain %.0f/s, both %.0f/s, p99 %.1f ms, "+
				"CPU s per 1,000: %s client %.2f\n", round+1, *rounds, chosen[i].name, r.Load, r.Enqueue, r.Drain, r.Both, r.P99, r.each(), r.Client)
			outcomes[i].Rounds[round] = r
			loads = append(loads, r.Load)
		}
	}
	rep := &report{Machine: describe(s, append(loads, loadAverage())), Steps: *steps, Peers: outcomes}
	rep.conclude()
	if *asJSON {
		return rep.json(os.Stdout)
	}
	return rep.table(os.Stdout)
}

// order is another one in each round: each peer follows each other one, and what one leaves behind meets all.
func order(n, round int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = (i + round) % n
	}
	if round%2 == 1 {
		slices.Reverse(list)
	}
	return list
}
