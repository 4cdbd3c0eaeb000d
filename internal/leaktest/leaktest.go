// Package leaktest makes a test binary fail that leaves goroutines behind.
package leaktest

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const timeout = 30 * time.Second

// Main is the body of TestMain: it runs the tests and, if all passed, fails for each goroutine that does not end. goleak's own
// VerifyTestMain waits less than half a second for them; on a busy machine an embedded server takes longer to go.
func Main(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := leaked(); err != nil {
			fmt.Fprintln(os.Stderr, "leaktest: goroutines left behind:", err)
			code = 1
		}
	}
	os.Exit(code) //nolint:revive // TestMain does nothing else
}

func leaked() (err error) {
	for end := time.Now().Add(timeout); ; {
		err = goleak.Find(
			// nats.go 1.55 loses it now and then in ObjectStore.Put: cleanupReplySub may set the channel to nil before the goroutine that is to read
			// it has looked. It ends with the process, and only publishing starts it.
			goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"),
			// The server's own clock for access times is shared by all servers of a process and ends some time after the last of them.
			goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"),
		)
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}
