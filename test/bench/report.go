package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// machine is where the figures come from.
type machine struct {
	When       string  `json:"when"`
	Cores      int     `json:"cores"`
	CPU        string  `json:"cpu"`
	Kernel     string  `json:"kernel"`
	Go         string  `json:"go"`
	PostgreSQL string  `json:"postgresql,omitempty"`
	LoadMin    float64 `json:"load_min"`
	LoadMax    float64 `json:"load_max"`
}

func describe(s *site, loads []float64) machine {
	m := machine{
		When: time.Now().UTC().Format("2006-01-02 15:04 UTC"), Cores: runtime.NumCPU(), Go: runtime.Version(),
		LoadMin: slices.Min(loads), LoadMax: slices.Max(loads),
	}
	if s.postgres != nil {
		m.PostgreSQL = s.postgres.version
	}
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(release))
	}
	info, _ := os.ReadFile("/proc/cpuinfo") // the name is left out then
	for line := range strings.Lines(string(info)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			m.CPU = strings.TrimSpace(strings.TrimLeft(name, "\t :"))
			break
		}
	}
	return m
}

func (m machine) String() string {
	text := fmt.Sprintf("%s, %d cores (%s), Linux %s, %s", m.When, m.Cores, m.CPU, m.Kernel, m.Go)
	if m.PostgreSQL != "" {
		text += ", PostgreSQL " + m.PostgreSQL
	}
	return text + fmt.Sprintf(", load average %.1f to %.1f", m.LoadMin, m.LoadMax)
}

// column is one figure of the table.
type column struct {
	title string
	json  string
	of    func(result) float64
}

var columns = []column{
	{"enqueue c16 /s", "enqueue", func(r result) float64 { return r.Enqueue }},
	{"drain /s", "drain", func(r result) float64 { return r.Drain }},
	{"both at once /s", "both", func(r result) float64 { return r.Both }},
	{"p50 ms at 200/s", "p50", func(r result) float64 { return r.P50 }},
	{"p99 ms", "p99", func(r result) float64 { return r.P99 }},
	{"CPU s per 1,000: servers", "cpu_servers", func(r result) float64 { return r.Servers }},
	{"client", "cpu_client", func(r result) float64 { return r.Client }},
	{"together", "cpu", result.total},
}

// report is the outcome of a run of peers.
type report struct {
	Machine machine   `json:"machine"`
	Steps   int       `json:"steps"`
	Peers   []outcome `json:"peers"`
}

// outcome is one line: medians over the rounds, and medians of the ratios to the yardstick within each round.
type outcome struct {
	Name   string             `json:"name"`
	Title  string             `json:"title"`
	Median map[string]float64 `json:"median"`
	Ratio  map[string]float64 `json:"ratio_to_river,omitempty"`
	Others float64            `json:"others_cores"`
	Rounds []result           `json:"rounds"`

	peer peer
}

func (r *report) conclude() {
	var base []result
	for _, o := range r.Peers {
		if o.Name == yardstick {
			base = o.Rounds
		}
	}
	for i := range r.Peers {
		o := &r.Peers[i]
		o.Median = map[string]float64{}
		for _, c := range columns {
			o.Median[c.json] = median(each(o.Rounds, c.of))
		}
		o.Others = median(each(o.Rounds, func(r result) float64 { return r.Others }))
		if base == nil {
			continue
		}
		o.Ratio = map[string]float64{}
		for _, c := range columns {
			ratios := make([]float64, len(o.Rounds))
			for n := range o.Rounds {
				ratios[n] = c.of(o.Rounds[n]) / c.of(base[n])
			}
			o.Ratio[c.json] = median(ratios)
		}
	}
}

func each[T any](rounds []T, of func(T) float64) []float64 {
	list := make([]float64, len(rounds))
	for i, r := range rounds {
		list[i] = of(r)
	}
	return list
}

func median(list []float64) float64 {
	if len(list) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(list))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// table prints medians, each with its ratio to the yardstick.
func (r *report) table(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	var line strings.Builder
	for _, c := range columns {
		line.WriteString("\t" + c.title)
	}
	fmt.Fprintln(w, line.String()+"\tothers, cores")
	for _, o := range r.Peers {
		line.Reset()
		line.WriteString(o.Title)
		for _, c := range columns {
			line.WriteString("\t" + figure(o.Median[c.json]))
			if ratio, ok := o.Ratio[c.json]; ok && o.Name != yardstick {
				line.WriteString(fmt.Sprintf(" (%.2f)", ratio))
			}
		}
		fmt.Fprintf(w, "%s\t%.1f\n", line.String(), o.Others)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	rounds := len(r.Peers[0].Rounds)
	_, err := fmt.Fprintf(out, "\nMedians of %d rounds, %d steps in a phase (fast peers more). In brackets: ratio to River, median of the rounds.\n"+
		"CPU is that of the third column's phase. \"Others\" are processes of this machine that have no part in it.\n%s\n", rounds, r.Steps, r.Machine)
	return err
}

func (r *report) json(out io.Writer) error { return indented(out, r) }

func indented(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// figure has three digits or so.
func figure(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}
