package omflowtest

import (
	"fmt"
	"hash/fnv"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/config"
)

// Faults is what goes wrong on purpose. Each rate is a part of 1. Whether something happens to a step depends on the seed,
// the row and, where it says so, the attempt: the same in every process, so a test can predict it.
type Faults struct {
	Seed int64 `envconfig:"OMFLOWTEST_SEED" default:"1" desc:"another seed lets other steps go wrong"`

	Fail   float64 `envconfig:"OMFLOWTEST_FAIL" default:"0" desc:"part of all tries that fail before anything is committed"`
	Poison float64 `envconfig:"OMFLOWTEST_POISON" default:"0" desc:"part of all steps that fail at every try"`

	Slow    float64       `envconfig:"OMFLOWTEST_SLOW" default:"0" desc:"part of all tries that take OMFLOWTEST_SLOW_FOR longer"`
	SlowFor time.Duration `envconfig:"OMFLOWTEST_SLOW_FOR" default:"1s" desc:"how much longer"`

	CrashInStep      float64 `envconfig:"OMFLOWTEST_CRASH_IN_STEP" default:"0" desc:"part of all tries at which the runner dies after the effect, before the commit"`
	CrashAfterCommit float64 `envconfig:"OMFLOWTEST_CRASH_AFTER_COMMIT" default:"0" desc:"part of all steps at which the runner dies after the commit, before the next step is handed over"`
	CrashBeforePut   float64 `envconfig:"OMFLOWTEST_CRASH_BEFORE_PUT" default:"0" desc:"part of all filed tickets at which the server dies after the row, before it is handed over"`
}

// CrashExit is the exit code of a process that died on purpose.
const CrashExit = 86

// Validate checks the rates.
func (f Faults) Validate() error {
	for _, r := range []struct {
		name string
		rate float64
	}{
		{"OMFLOWTEST_FAIL", f.Fail},
		{"OMFLOWTEST_POISON", f.Poison},
		{"OMFLOWTEST_SLOW", f.Slow},
		{"OMFLOWTEST_CRASH_IN_STEP", f.CrashInStep},
		{"OMFLOWTEST_CRASH_AFTER_COMMIT", f.CrashAfterCommit},
		{"OMFLOWTEST_CRASH_BEFORE_PUT", f.CrashBeforePut},
	} {
		if r.rate < 0 || r.rate > 1 {
			return &config.Error{Var: r.name, Problem: fmt.Sprintf("%g is not a part of the whole", r.rate), Fix: "use 0 to 1"}
		}
	}
	return nil
}

// Fails tells whether this try of the step fails before anything is committed.
func (f Faults) Fails(row int64, attempt int) bool {
	return f.hits("fail", f.Fail, row, attempt) || f.hits("poison", f.Poison, row, 0)
}

// IsSlow tells whether this try takes SlowFor longer.
func (f Faults) IsSlow(row int64, attempt int) bool { return f.hits("slow", f.Slow, row, attempt) }

// CrashesInStep tells whether the runner dies between effect and commit of this try.
func (f Faults) CrashesInStep(row int64, attempt int) bool {
	return f.hits("in-step", f.CrashInStep, row, attempt)
}

// CrashesAfterCommit tells whether the runner dies after the commit of this step; there is no second one.
func (f Faults) CrashesAfterCommit(row int64) bool {
	return f.hits("after-commit", f.CrashAfterCommit, row, 0)
}

// CrashesBeforePut tells whether the server dies after it has committed the first row of a ticket.
func (f Faults) CrashesBeforePut(row int64) bool {
	return f.hits("before-put", f.CrashBeforePut, row, 0)
}

func (f Faults) hits(what string, rate float64, row int64, attempt int) bool {
	return rate > 0 && f.draw(what, row, attempt) < rate
}

// draw returns a number in [0, 1) that looks random and is the same everywhere.
func (f Faults) draw(what string, row int64, attempt int) float64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %d %d %d", what, f.Seed, row, attempt)
	// FNV leaves neighbouring inputs alike in the high bits; one round of mixing spreads them.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return float64(x>>11) / (1 << 53)
}
