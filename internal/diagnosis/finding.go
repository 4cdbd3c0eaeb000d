package diagnosis

import (
	"fmt"
	"io"

	"github.com/omflow-booster/omflow-booster/internal/text"
)

// Verdict is the outcome of one check.
type Verdict string

// Verdicts.
const (
	VerdictOK   Verdict = "ok"
	VerdictWarn Verdict = "warn" // works, but look at it
	VerdictFail Verdict = "fail"
	VerdictSkip Verdict = "skip" // does not apply to this host, or could not be looked at
)

// Finding is one line of the doctor.
type Finding struct {
	Check   string  `json:"check"`
	Verdict Verdict `json:"verdict"`
	Detail  string  `json:"detail"`
	Fix     string  `json:"fix,omitempty"` // what to do
}

// OK finds nothing to do.
func OK(check, detail string) Finding {
	return Finding{Check: check, Verdict: VerdictOK, Detail: detail}
}

// Warning finds something that works and needs a look.
func Warning(check, detail, fix string) Finding { return Finding{check, VerdictWarn, detail, fix} }

// Failure finds something that does not work.
func Failure(check, detail, fix string) Finding { return Finding{check, VerdictFail, detail, fix} }

// Skipped says why nothing was looked at.
func Skipped(check, detail string) Finding {
	return Finding{Check: check, Verdict: VerdictSkip, Detail: detail}
}

// Tally counts the verdicts.
func Tally(findings []Finding) map[Verdict]int {
	n := map[Verdict]int{}
	for _, f := range findings {
		n[f.Verdict]++
	}
	return n
}

// PrintFindings writes the findings for people, and a line that sums them up.
func PrintFindings(w io.Writer, findings []Finding) error {
	for _, f := range findings {
		line := fmt.Sprintf("%-4s  %-11s  %s\n", f.Verdict, f.Check, text.OneLine(f.Detail))
		if f.Fix != "" {
			line += fmt.Sprintf("%19s→ %s\n", "", text.OneLine(f.Fix))
		}
		if _, err := io.WriteString(w, line); err != nil {
			return err
		}
	}
	n := Tally(findings)
	_, err := fmt.Fprintf(w, "\n%d ok, %s, %d failed\n", n[VerdictOK], text.Counted(n[VerdictWarn], "warning"), n[VerdictFail])
	return err
}
