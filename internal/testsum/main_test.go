package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What go test -json says of a package that passes with one test skipped, one that fails, one that does not build
// and one that fails after its last test.
const recorded = `
{"Action":"run","Package":"example.org/o/m/good","Test":"TestA"}
{"Action":"output","Package":"example.org/o/m/good","Test":"TestA","Output":"chatter of a test that passes\n"}
{"Action":"pass","Package":"example.org/o/m/good","Test":"TestA"}
{"Action":"output","Package":"example.org/o/m/good","Test":"TestB","Output":"=== RUN   TestB\n"}
{"Action":"output","Package":"example.org/o/m/good","Test":"TestB","Output":"    b_test.go:4: needs MariaDB\n"}
{"Action":"output","Package":"example.org/o/m/good","Test":"TestB","Output":"--- SKIP: TestB (0.00s)\n"}
{"Action":"skip","Package":"example.org/o/m/good","Test":"TestB"}
{"Action":"pass","Package":"example.org/o/m/good","Elapsed":1.25}
{"Action":"output","Package":"example.org/o/m/bad","Test":"TestC/sub","Output":"got 1, want 2\n"}
{"Action":"fail","Package":"example.org/o/m/bad","Test":"TestC/sub"}
{"Action":"fail","Package":"example.org/o/m/bad","Elapsed":0.5}
{"Action":"build-output","ImportPath":"example.org/o/m/broken","Output":"x.go:1: undefined: y\n"}
{"Action":"fail","Package":"example.org/o/m/broken"}
{"Action":"pass","Package":"example.org/o/m/leaky","Test":"TestD"}
{"Action":"output","Package":"example.org/o/m/leaky","Output":"leaktest: goroutines left behind\n"}
{"Action":"fail","Package":"example.org/o/m/leaky"}
{"Action":"skip","Package":"example.org/o/m/untested"}
warning: plain text`

func TestSummary(t *testing.T) {
	t.Parallel()
	results := filepath.Join(t.TempDir(), "results")
	var out strings.Builder
	if err := run(strings.NewReader(recorded[1:]), &out, results); err != nil {
		t.Fatal(err)
	}
	wantOut := `ok       1.2s    1 passed, 1 skipped  good

got 1, want 2
FAIL     0.5s    0 passed, 1 failed  bad
x.go:1: undefined: y
FAIL     0.0s    0 passed  broken

leaktest: goroutines left behind
FAIL     0.0s    1 passed  leaky
warning: plain text`
	if out.String() != wantOut {
		t.Errorf("shown:\n%s\nwant:\n%s", out.String(), wantOut)
	}
	got, err := os.ReadFile(results)
	if err != nil {
		t.Fatal(err)
	}
	want := "pass\texample.org/o/m/good.TestA\t\n" +
		"skip\texample.org/o/m/good.TestB\tb_test.go:4: needs MariaDB\n" +
		"fail\texample.org/o/m/bad.TestC/sub\t\n" +
		"fail\texample.org/o/m/broken\t\n" +
		"pass\texample.org/o/m/leaky.TestD\t\n" +
		"fail\texample.org/o/m/leaky\tleaktest: goroutines left behind\n"
	if string(got) != want {
		t.Errorf("results:\n%s\nwant:\n%s", got, want)
	}
}
