//go:build linux

// Package test holds scenarios over real processes: Boosters, workers and agents that are started, killed and frozen as
// they would be on hosts of their own, with a real database and no knowledge of their insides.
//
// The program under test is TEST_BINARY; test.sh builds it with the race detector. Without it the tests build one
// themselves. A process that reports a data race or panics fails its test, whatever else the test says.
package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// binary is the program under test.
var binary = os.Getenv("TEST_BINARY")

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	if binary == "" {
		dir, err := os.MkdirTemp("", "omflow-booster-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(dir) }()
		binary = filepath.Join(dir, "omflow-booster")
		build := exec.Command("go", "build", "-o", binary, "..")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the program under test: %s\n%s", err, out)
			return 1
		}
	}
	return m.Run()
}
