// Package plugin asks the Python of an OMFLOW Server for the settings of that server.
package plugin

import (
	"bytes"
	"context"
	_ "embed" // for environment
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

const timeout = 30 * time.Second // a Python that starts on a busy host

// environment is the program that says what a server's settings are: see its first lines.
//
//go:embed omflow_booster/environment.py
var environment string

// Settings returns the variables that the plugin, which is installed for that Python, reads from the settings in home.
func Settings(ctx context.Context, python, home string) (variables map[string]string, err error) {
	err = ask(ctx, home, nil, &variables, python, "-m", "omflow_booster.environment")
	return variables, err
}

// Describe fills answer with everything that can be said of the server in home. The plugin need not be installed.
func Describe(ctx context.Context, python, home string, answer any) error {
	return ask(ctx, home, strings.NewReader(environment), answer, python, "-", "--describe")
}

// ask runs a program that prints one JSON document. An error carries the last line of its standard error: where a Python
// traceback says what is wrong.
func ask(ctx context.Context, home string, stdin io.Reader, answer any, program ...string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, program[0], program[1:]...)
	cmd.Dir, cmd.Stdin, cmd.Stderr, cmd.WaitDelay = home, stdin, &stderr, time.Second
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, answer)
	}
	lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
	if last := lines[len(lines)-1]; err != nil && last != "" {
		err = fmt.Errorf("%w (%s)", err, last)
	}
	return err
}
