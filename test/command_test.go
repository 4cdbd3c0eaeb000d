//go:build linux

package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// answer is what a command that has ended leaves behind.
type answer struct {
	code           int // -1: ended by a signal
	stdout, stderr string
}

// ask runs one command line of the product to its end, as a person or a script does, with input as its standard input.
func ask(t testing.TB, vars env, input string, args ...string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout) // not the test's: a cleanup may ask too
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = environ(vars)
	cmd.Stdin = strings.NewReader(input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatalf("omflow-booster %s: %s", strings.Join(args, " "), err)
	}
	if ctx.Err() != nil {
		t.Errorf("omflow-booster %s has not ended within %s", strings.Join(args, " "), commandTimeout)
	}
	if found := broken.FindString(stderr.String()); found != "" {
		t.Errorf("omflow-booster %s: %s\n%s", strings.Join(args, " "), found, lastLines(stderr.String(), 200))
	}
	races(t, "omflow-booster "+strings.Join(args, " "), stderr.String())
	return answer{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// command runs a command for people against a Booster and returns its exit code and all that it wrote.
func command(t testing.TB, b *booster, args ...string) (code int, output string) {
	t.Helper()
	a := ask(t, b.env(), "", args...)
	return a.code, a.stdout + a.stderr
}

// warnings is the exit code of `status` when everything works, and something could be better.
const warnings = 3

// query runs a command with --json that must succeed, and reads what it prints.
func query[T any](t testing.TB, b *booster, args ...string) (printed T) {
	t.Helper()
	a := ask(t, b.env(), "", append(args, "--json")...)
	if a.code != 0 && (a.code != warnings || args[0] != "status") {
		t.Fatalf("omflow-booster %s: code %d\n%s%s", strings.Join(args, " "), a.code, a.stdout, a.stderr)
	}
	if err := json.Unmarshal([]byte(a.stdout), &printed); err != nil {
		t.Fatalf("omflow-booster %s prints %s: %s", strings.Join(args, " "), a.stdout, err)
	}
	return printed
}
