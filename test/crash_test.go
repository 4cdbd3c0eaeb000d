//go:build linux

package test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
)

// The three moments at which a process of OMFLOW can die between its row and the queue. Each leaves work to the reconciler,
// or to the next delivery.
func TestServerAndRunnersCrash(t *testing.T) {
	t.Parallel()
	const rate, tickets = 0.15, 25
	died := fmt.Sprintf("exit status %d", omflowtest.CrashExit)
	for name, crash := range map[string]struct {
		faults   omflowtest.Faults
		variable string
		certain  func(omflowtest.Faults) bool // that it happens to the first row
	}{
		"in the step, before the commit": {
			omflowtest.Faults{CrashInStep: rate},
			"OMFLOWTEST_CRASH_IN_STEP",
			func(f omflowtest.Faults) bool { return f.CrashesInStep(1, 1) },
		},
		"after the commit, before the next step is handed over": {
			omflowtest.Faults{CrashAfterCommit: rate},
			"OMFLOWTEST_CRASH_AFTER_COMMIT",
			func(f omflowtest.Faults) bool { return f.CrashesAfterCommit(1) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// given a server whose runners die of some steps
			s := prepareSite(t, env{"WORKER_MAX_ATTEMPTS": "20"})
			seed := s.seedThat(crash.faults, crash.certain)
			s.vars = merge(s.vars, env{"OMFLOWTEST_SEED": strconv.FormatInt(seed, 10), crash.variable: fmt.Sprint(rate)})
			s.servers = append(s.servers, s.startServer("server-1"), s.startServer("server-2"))
			// when tickets are filed
			s.file(tickets)
			// then nothing is lost and nothing happened twice, though runners did die
			s.finish()
			if !strings.Contains(s.servers[0].worker.output()+s.servers[1].worker.output(), died) {
				t.Error("no runner has died: nothing was tested")
			}
		})
	}
	t.Run("between the row and the queue", func(t *testing.T) {
		t.Parallel()
		// given servers that die of some tickets, and agents that start them again
		s := prepareSite(t, nil)
		s.serversFail = true
		seed := s.seedThat(omflowtest.Faults{CrashBeforePut: rate}, func(f omflowtest.Faults) bool { return f.CrashesBeforePut(1) })
		s.vars = merge(s.vars, env{"OMFLOWTEST_SEED": strconv.FormatInt(seed, 10), "OMFLOWTEST_CRASH_BEFORE_PUT": fmt.Sprint(rate)})
		s.servers = append(s.servers, s.startUnderAgent("server-1", "1.1.4.0", nil), s.startUnderAgent("server-2", "1.1.4.0", nil))
		// when people file tickets
		s.fileTickets()
		s.afterTickets(2 * tickets)
		// then nothing is lost and nothing happened twice, though servers did die
		s.finish()
		if s.load.Tally().Failed == 0 {
			t.Error("no server has died: nothing was tested")
		}
	})
}
