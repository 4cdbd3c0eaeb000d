// Package testkit has what tests of several packages need: waiting for a condition, and free ports.
//
// Parts that bring more with them have packages of their own:
//   - internal/bustest: JetStream as a Booster has it
//   - internal/pgtest: a database of a test's own
//   - internal/leaktest: no goroutine is left behind
//   - internal/omflowtest: stand-ins for OMFLOW Servers
//   - internal/freeport: ports; the demo uses it too, and a program does not import testing
package testkit

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/freeport"
)

const (
	timeout   = time.Minute // for things that take milliseconds on an idle machine
	pollEvery = 20 * time.Millisecond
)

// Eventually waits until ok returns true, and fails the test when that takes longer than a minute. what names the
// condition. ok is called in the goroutine of the test, so it may fail the test, too.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	Await(t, timeout, what, func(context.Context) error {
		if !ok() {
			return errors.New("it did not come true")
		}
		return nil
	})
}

// Await polls until check returns nil, and fails the test with its last error when that takes longer than limit.
func Await(t testing.TB, limit time.Duration, what string, check func(ctx context.Context) error) {
	t.Helper()
	// Not the context of the test: cleanups wait too.
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	last := errors.New("it was not looked at in time")
	for {
		err := check(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil { // else it says no more than that the time is over
			last = err
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited %s for %s: %s", limit, what, last)
		case <-tick.C:
		}
	}
}

// FreePort returns a TCP port of 127.0.0.1 that nobody listens on, for a server that may stop and start again on it.
func FreePort(t testing.TB) int {
	t.Helper()
	port, err := freeport.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
