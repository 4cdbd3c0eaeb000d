package bus

import (
	"testing"

	"github.com/omflow-booster/omflow-booster/internal/work"
)

func TestSelectionFilter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		chosen Selection
		want   string
	}{
		{Selection{}, "work.*.*.*"},
		{Selection{Kind: "FormFlow"}, "work.formflow.*.*"},
		{Selection{Flow: "4f1c-ab"}, "work.*.4f1c-ab.*"},
		{Selection{Kind: "Form.Flow", Flow: "*"}, "work.form_flow._.*"}, // a wildcard is a letter like any other
	} {
		if got := Subject(WorkSubject).Filter(c.chosen); got != c.want {
			t.Errorf("%+v: %q, want %q", c.chosen, got, c.want)
		}
	}
	if got := Subject(DeadSubject).filter(Selection{}, work.ID{Source: work.Outbox, Row: 3}.String()); got != "dead.*.*.o3" {
		t.Errorf("filter of an id: %q", got)
	}
}

// Whatever the bus builds can be taken apart and built again: retry and purge depend on it.
func TestSubjectTokens(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{{"FormFlow", "4f1c", "q1"}, {"a.b", "", "o2"}, {"", "x y", "q3"}} {
		dead := DeadSubject(c[0], c[1], c[2])
		kind, flow, id := SubjectTokens(dead)
		if got := DeadSubject(kind, flow, id); got != dead {
			t.Errorf("%v: %q became %q", c, dead, got)
		}
		if flow == "-" {
			t.Errorf("%v: no flow is shown as one", c)
		}
	}
}
