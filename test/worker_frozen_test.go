//go:build linux

package test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

const shortLease = 2 * time.Second

// longSteps keeps every slot full of steps that have not had their effect yet, so that a process that is killed or frozen has some in
// hand. One in fifty needs its lease renewed.
var longSteps = env{
	"BOOSTER_LEASE": shortLease.String(), "OMFLOWTEST_STEP_MIN": "30ms", "OMFLOWTEST_STEP_MAX": "100ms",
	"OMFLOWTEST_SLOW": "0.02", "OMFLOWTEST_SLOW_FOR": "3s",
}

func TestWorkerIsKilledUnderLoad(t *testing.T) {
	t.Parallel()
	// given three servers at which people file tickets
	s := startSite(t, 3, longSteps)
	s.fileTickets()
	// when a worker is killed in the middle of steps, and started again after the others went on, three times
	for range 3 {
		victim := s.any().worker
		victim.untilInHand()
		victim.kill()
		testkit.Await(t, childTimeout, "the runners to end with their worker", func(context.Context) error {
			if left := victim.members(); len(left) > 0 {
				return fmt.Errorf("still there: %v", left)
			}
			return nil
		})
		s.afterSteps(s.some(10, 40))
		victim.restart()
	}
	// then nothing is lost and nothing happened twice
	s.finish()
}

// A worker is frozen with steps in hand for longer than their lease, and wakes up.
func TestWorkerIsFrozenForLongerThanItsLease(t *testing.T) {
	t.Parallel()
	for name, freeze := range map[string]func(w *worker){
		"with its runners":        func(w *worker) { w.freeze() },
		"while its runners go on": func(w *worker) { w.freezeOnly(w.pid()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// given two servers at which people file tickets
			s := startSite(t, 2, longSteps)
			s.fileTickets()
			s.afterSteps(s.some(15, 60))
			frozen, other := s.servers[0].worker, s.servers[1].worker
			redelivered := other.redelivered()
			// when one worker is frozen until the other one gets its steps
			frozen.untilInHand()
			freeze(frozen)
			began := time.Now()
			testkit.Await(t, timeout, "the steps of the frozen worker to come again", func(context.Context) error {
				if n := other.redelivered() - redelivered; n == 0 || time.Since(began) < 2*shortLease {
					return fmt.Errorf("%d have, after %s", n, time.Since(began))
				}
				return nil
			})
			frozen.thaw()
			s.afterSteps(20)
			// then nothing is lost and nothing happened twice
			s.finish()
		})
	}
}

// A runner alone is frozen. Its worker goes on renewing the lease, so the step stays with it and is done when it wakes up.
func TestRunnerIsFrozenForLongerThanTheLease(t *testing.T) {
	t.Parallel()
	// given two servers at which people file tickets
	s := startSite(t, 2, longSteps)
	s.fileTickets()
	s.afterSteps(s.some(15, 60))
	w := s.servers[0].worker
	// when a runner is frozen, and the others go on for longer than a lease
	w.untilBusy()
	began := time.Now()
	w.freezeOnly(w.runners()[0])
	for time.Since(began) < 2*shortLease {
		s.afterSteps(5)
	}
	w.thaw()
	// then nothing is lost and nothing happened twice
	s.finish()
}

// A runner that does not wake up is ended when its step has run too long, at the price of one try.
func TestRunnerThatHangsIsReplaced(t *testing.T) {
	t.Parallel()
	// given a worker with one runner, which is in the middle of the first step of a ticket
	s := siteInSlowStep(t, env{"WORKER_STEP_TIMEOUT": "3s"})
	w := s.servers[0].worker
	// when the runner freezes for good
	w.freezeOnly(w.runners()...)
	// then the step is tried again in another one
	s.finish()
	s.checkOneAttemptLost("step ran longer than 3s")
}

func TestRunnerIsKilledInItsStep(t *testing.T) {
	t.Parallel()
	// given a worker with one runner, which is in the middle of the first step of a ticket
	s := siteInSlowStep(t, nil)
	w := s.servers[0].worker
	// when the runner is killed
	for _, pid := range w.runners() {
		w.signal(pid, syscall.SIGKILL)
	}
	// then the step is tried again in another one
	s.finish()
	s.checkOneAttemptLost("signal: killed")
}

// A step that takes longer than its lease is nobody else's, and is run once.
func TestStepThatOutlastsItsLeaseIsRunOnce(t *testing.T) {
	t.Parallel()
	// given a worker in the middle of a step that takes longer than its lease, and an idle one beside it
	s := siteInSlowStep(t, env{"BOOSTER_LEASE": "4s", "OMFLOWTEST_SLOW_FOR": "6s"})
	s.servers = append(s.servers, s.startServer("server-2"))
	// then the idle one does not get it
	s.finish()
	if n := s.must(`SELECT count(*) FROM omflow_booster_history WHERE attempt = 1 AND outcome = 'done'`); n != 8 {
		t.Errorf("%d of 8 steps were done at their first try", n)
	}
	if n := s.must(`SELECT count(*) FROM omflow_booster_history`); n != 8 {
		t.Errorf("8 steps took %d tries", n)
	}
}

// siteInSlowStep is a server with one runner, in the middle of the first step of the only ticket: a step that takes two
// seconds at the first try, unless vars say otherwise. Nothing else takes long.
func siteInSlowStep(t *testing.T, vars env) *site {
	t.Helper()
	s := prepareSite(t, merge(env{"WORKER_SLOTS": "1", "OMFLOWTEST_SLOW": "0.1", "OMFLOWTEST_SLOW_FOR": "2s"}, vars))
	seed := s.seedThat(omflowtest.Faults{Slow: 0.1}, func(f omflowtest.Faults) bool {
		alone := f.IsSlow(1, 1) && !f.IsSlow(1, 2)
		for row := range int64(omflowtest.Steps - 1) {
			alone = alone && !f.IsSlow(row+2, 1)
		}
		return alone
	})
	s.vars["OMFLOWTEST_SEED"] = strconv.FormatInt(seed, 10)
	s.servers = append(s.servers, s.startServer("server-1"))
	s.file(1)
	s.servers[0].worker.untilBusy()
	return s
}

// checkOneAttemptLost looks into the history, which a worker writes out when it stops: the first try of the first step has failed
// in this way, the second one did it, and no other step has noticed.
func (s *site) checkOneAttemptLost(reason string) {
	s.t.Helper()
	s.checkAttempts("failed", reason, 1)
	for what, n := range map[string]int{
		"first step at its second try": s.must(
			`SELECT count(*) FROM omflow_booster_history WHERE outcome = 'done' AND work_id = 'q1' AND attempt = 2`),
		"other steps at their first try": s.must(
			`SELECT count(*) - 6 FROM omflow_booster_history WHERE outcome = 'done' AND work_id <> 'q1' AND attempt = 1`),
		"all": s.must(`SELECT count(*) - 8 FROM omflow_booster_history`),
	} {
		if n != 1 {
			s.t.Errorf("the history is not that of one lost try (%s)", what)
		}
	}
}

// checkAttempts compares how many attempts the history has with an outcome and a piece of an error.
func (s *site) checkAttempts(outcome, text string, want int) {
	s.t.Helper()
	if n := s.attempts(outcome, text); n != want {
		s.t.Errorf("%d tries %s with %q, want %d", n, outcome, text, want)
	}
}

// attempts reads the history, which a worker writes out when it stops.
func (s *site) attempts(outcome, text string) int {
	s.t.Helper()
	return s.must(`SELECT count(*) FROM omflow_booster_history WHERE outcome = $1 AND strpos(error, $2) > 0`, outcome, text)
}

// untilBusy returns when a step runs in the worker.
func (w *worker) untilBusy() {
	w.t.Helper()
	testkit.Await(w.t, timeout, w.name+" to run a step", func(ctx context.Context) error {
		state, err := w.state(ctx)
		if err == nil && state.Running == 0 {
			err = errors.New("it is idle")
		}
		return err
	})
}

// untilInHand returns when a chain of the worker goes on: a step began in hand a moment ago.
func (w *worker) untilInHand() {
	w.t.Helper()
	before := int64(-1)
	testkit.Await(w.t, timeout, w.name+" to run a step in hand", func(ctx context.Context) error {
		state, err := w.state(ctx)
		if err != nil {
			return err
		}
		if before < 0 {
			before = state.InHand
		}
		if state.InHand == before || state.Running == 0 {
			return fmt.Errorf("%d were run in hand, %d run", state.InHand, state.Running)
		}
		return nil
	})
}

// redelivered is how many steps this worker got that somebody else had before.
func (w *worker) redelivered() int64 {
	w.t.Helper()
	state, err := w.state(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return state.Redelivered
}
