package cli

import (
	"testing"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/work"
)

func TestSelectionFilter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		chosen selection
		want   string
	}{
		{selection{}, "work.*.*.*"},
		{selection{kind: "FormFlow"}, "work.formflow.*.*"},
		{selection{flow: "4f1c-ab"}, "work.*.4f1c-ab.*"},
		{selection{kind: "Form.Flow", flow: "*"}, "work.form_flow._.*"}, // a wildcard is a letter like any other
	} {
		if got := c.chosen.filter(bus.WorkSubject); got != c.want {
			t.Errorf("%+v: %q, want %q", c.chosen, got, c.want)
		}
	}
	if got := filterID(bus.DeadSubject, work.ID{Source: work.Outbox, Row: 3}); got != "dead.*.*.o3" {
		t.Errorf("filterID: %q", got)
	}
}

// Whatever the bus builds can be taken apart and built again: retry and purge depend on it.
func TestSubjectTokens(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{{"FormFlow", "4f1c", "q1"}, {"a.b", "", "o2"}, {"", "x y", "q3"}} {
		dead := bus.DeadSubject(c[0], c[1], c[2])
		kind, flow, id := subjectTokens(dead)
		if got := bus.DeadSubject(kind, flow, id); got != dead {
			t.Errorf("%v: %q became %q", c, dead, got)
		}
		if flow == "-" {
			t.Errorf("%v: no flow is shown as one", c)
		}
	}
}
