// Command testsum turns the output of `go test -json` into what a person reads of a test run: one line a package,
// and everything that a failed test said. It appends one line for each test to the file that its argument names:
//
//	pass|fail|skip <tab> package.Test <tab> why (of a skipped test, and of a package that failed outside of its tests)
//
// It is a tool of test.sh and not part of the product.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go test -json … | testsum RESULTS")
		os.Exit(2)
	}
	if err := run(os.Stdin, os.Stdout, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer, resultsFile string) error {
	results, err := os.OpenFile(resultsFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	lines := bufio.NewWriter(results)
	r := &reader{out: out, results: lines, said: map[string][]string{}, count: map[string]map[string]int{}}
	return errors.Join(r.read(in), lines.Flush(), results.Close())
}

// event is one line of `go test -json`; see `go doc test2json`.
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64 // seconds
}

// reader keeps what each test and package said until it is known whether anybody has to read it.
type reader struct {
	out, results io.Writer
	said         map[string][]string       // by package, or package.Test
	count        map[string]map[string]int // by package and pass, fail, skip
}

func (r *reader) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		var e event
		switch {
		case len(line) == 0:
		case json.Unmarshal(line, &e) == nil:
			r.take(e)
		default: // go test says some things in plain text
			fmt.Fprint(r.out, string(line))
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read test output: %w", err)
		}
	}
}

func (r *reader) take(e event) {
	name := e.Package
	if e.Test != "" {
		name += "." + e.Test
	}
	switch e.Action {
	case "output":
		r.said[name] = append(r.said[name], e.Output)
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.endPackage(e)
		} else {
			r.endTest(e, name)
		}
		delete(r.said, name)
	}
}

func (r *reader) endTest(e event, name string) {
	if r.count[e.Package] == nil {
		r.count[e.Package] = map[string]int{}
	}
	r.count[e.Package][e.Action]++
	why := ""
	switch e.Action {
	case "skip":
		why = reason(r.said[name])
	case "fail":
		fmt.Fprintf(r.out, "\n%s", strings.Join(r.said[name], ""))
	}
	fmt.Fprintf(r.results, "%s\t%s\t%s\n", e.Action, name, why)
}

func (r *reader) endPackage(e event) {
	n := r.count[e.Package]
	if e.Action == "fail" {
		if n["fail"] == 0 { // it did not build, panicked, ran out of time, or failed outside of any test
			fmt.Fprintf(r.results, "fail\t%s\t%s\n", e.Package, outside(r.said[e.Package]))
		}
		for name, said := range r.said { // tests that never ended, and the package itself
			if name == e.Package || strings.HasPrefix(name, e.Package+".") {
				fmt.Fprintf(r.out, "\n%s", strings.Join(said, ""))
				delete(r.said, name)
			}
		}
	}
	if e.Action == "skip" { // no test files
		return
	}
	mark := map[string]string{"pass": "ok  ", "fail": "FAIL"}[e.Action]
	fmt.Fprintf(r.out, "%s  %6.1fs  %3d passed", mark, e.Elapsed, n["pass"])
	for _, kind := range []struct{ action, word string }{{"fail", "failed"}, {"skip", "skipped"}} {
		if n[kind.action] > 0 {
			fmt.Fprintf(r.out, ", %d %s", n[kind.action], kind.word)
		}
	}
	fmt.Fprintf(r.out, "  %s\n", short(e.Package))
}

// reason is what a test said when it skipped itself.
func reason(said []string) string {
	var why []string
	for _, line := range said {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			why = append(why, line)
		}
	}
	return strings.Join(why, " ")
}

// outside is the line that tells why a package failed although none of its tests did.
func outside(said []string) string {
	for _, line := range said {
		for _, start := range []string{"panic:", "fatal error:", "WARNING: DATA RACE", "leaktest:"} {
			if strings.HasPrefix(line, start) {
				return strings.TrimSpace(line)
			}
		}
	}
	return ""
}

// short is a package without the host and owner of its module.
func short(pkg string) string {
	if parts := strings.SplitN(pkg, "/", 4); len(parts) == 4 {
		return parts[3]
	}
	return path.Base(pkg)
}
