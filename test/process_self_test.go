//go:build linux

package test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

// The scenarios are only worth what the harness can do, so it is tested itself, with shells.

func shell(t *testing.T, script string) *process {
	t.Helper()
	p := start(t, "shell", env{"GREETING": "hello"}, "sh", "-c", script)
	p.ready(func(context.Context) error {
		if !strings.Contains(p.output(), "hello") {
			return errors.New("says nothing")
		}
		return nil
	})
	return p
}

func TestProcessStopsAndStartsAgain(t *testing.T) {
	t.Parallel()
	p := shell(t, `trap 'echo bye; exit 0' TERM; echo $GREETING; while :; do sleep 0.02; done`)
	p.stop()
	if p.running() || !strings.Contains(p.output(), "bye") {
		t.Errorf("running %t, output %q", p.running(), p.output())
	}
	p.again()
	if !p.running() {
		t.Error("not running again")
	}
	p.kill()
	if code := p.exitCode(0); code != -1 {
		t.Errorf("exit code %d after kill, want -1", code)
	}
}

func TestKillLeavesChildrenAndKillAllDoesNot(t *testing.T) {
	t.Parallel()
	p := shell(t, `sleep 600 & (sleep 600 & sleep 600) & echo $GREETING; wait`)
	testkit.Await(t, startTimeout, "children", func(context.Context) error {
		if n := len(p.members()); n < 4 {
			return fmt.Errorf("%d processes", n)
		}
		return nil
	})
	p.kill()
	if len(p.members()) < 3 {
		t.Errorf("kill took children too; left are %v", p.members())
	}
	p.killAll()
	if len(p.members()) != 0 {
		t.Errorf("killAll left %v", p.members())
	}
}

func TestFrozenProcessDoesNothingUntilItThaws(t *testing.T) {
	t.Parallel()
	p := shell(t, `while :; do echo $GREETING; sleep 0.01; done`)
	p.freeze()
	before := p.output()
	time.Sleep(200 * time.Millisecond) // the one way to see that nothing happens
	if after := p.output(); after != before {
		t.Error("a frozen process went on")
	}
	p.thaw()
	testkit.Await(t, startTimeout, "the thawed process to go on", func(context.Context) error {
		if len(p.output()) == len(before) {
			return errors.New("says nothing")
		}
		return nil
	})
}

func TestBrokenProcessIsNoticed(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"panic: boom\n\ngoroutine 1":          true,
		"fatal error: all goroutines":         true,
		`{"message":"no panic: all is well"}`: false,
	} {
		if got := broken.MatchString(text); got != want {
			t.Errorf("%q is noticed: %t, want %t", text, got, want)
		}
	}
}

func TestRaceIsFound(t *testing.T) {
	t.Parallel()
	const booster, server = "  github.com/omflow-booster/omflow-booster/broker.f()\n      f.go:1\n",
		"  github.com/nats-io/nats-server/v2/server.f()\n      f.go:1\n"
	const runtime = "  runtime.mapassign()\n      map.go:1\n  encoding/json.Marshal()\n      j.go:1\n"
	report := func(access string) string {
		return "{}\n==================\nWARNING: DATA RACE\nRead at 0x1 by goroutine 7:\n" + server +
			"\nPrevious write at 0x1 by goroutine 8:\n" + access +
			"\nGoroutine 7 (running) created at:\n" + booster + "==================\n{}"
	}
	for access, want := range map[string]bool{
		booster: true, runtime + booster: true, server: false, server + booster: false,
		runtime + server: false,
	} {
		found := race.FindString(report(access))
		if found == "" || ours(found) != want {
			t.Errorf("race in %s: found %q, ours %t", access, found, ours(found))
		}
	}
}
