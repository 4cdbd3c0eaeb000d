//go:build linux

// Package test holds scenarios over real processes: Boosters, workers and agents that are started, killed and frozen as
// they would be on hosts of their own, with a real database and no knowledge of their insides.
//
// The program under test is TEST_BINARY; test.sh builds it with the race detector. Without it the tests build one
// themselves. A process that reports a data race or panics fails its test, whatever else the test says.
//
// The OMFLOW Server is the stand-in of package omflowtest, which lets every effect be counted. A site is all of it together;
// what is random in a scenario comes from a seed that is logged, and TEST_SEED repeats it.
package test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/join"
)

var (
	binary  = os.Getenv("TEST_BINARY") // the program under test
	standIn string                     // the OMFLOW Server and its runner

	joinFile string      // that of every host
	signer   join.Signer // with the key in it
)

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "omflow-booster-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if binary == "" {
		binary = filepath.Join(dir, "omflow-booster")
		err = build(binary, "..")
	}
	standIn = filepath.Join(dir, "omflow-standin")
	if err = errors.Join(err, build(standIn, "../internal/omflowtest/omflow-standin"),
		makeJoinFile(filepath.Join(dir, "join.json"))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func makeJoinFile(path string) error {
	f, err := join.New("scenarios", time.Now())
	if err != nil {
		return err
	}
	joinFile = path
	signer, err = f.Signer()
	return errors.Join(err, f.Create(path))
}

func build(program, source string) error {
	if out, err := exec.Command("go", "build", "-o", program, source).CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", source, err, out)
	}
	return nil
}
