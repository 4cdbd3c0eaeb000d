package cli

import (
	"regexp"
	"strings"
	"testing"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

var stored = regexp.MustCompile(`"at": "[^"]+"`)

func TestWorkList(t *testing.T) {
	s := newStage(t)
	if r := run(t, "", "work", "ls"); r.code != exitOK || r.stdout != "No step waits or runs.\n" {
		t.Errorf("%+v", r)
	}
	s.putWork("FormFlow", "f1", "q1")
	s.putWork("Mail", "", "o1")
	s.putWork("FormFlow", "f2", "q2")
	s.fetch() // q1 runs, and stays in the list

	r := run(t, "", "work", "ls")
	want := "ID KIND FLOW KEY QUEUED SIZE\n" +
		"q1 FormFlow f1 f1/7 AGE ago 90 B\n" +
		"o1 Mail - /7 AGE ago 86 B\n" +
		"q2 FormFlow f2 f2/7 AGE ago 90 B\n"
	if got := squeeze(anAge.ReplaceAllString(r.stdout, "AGE ago")); r.code != exitOK || got != want {
		t.Errorf("code %d, got\n%s\nwant\n%s", r.code, got, want)
	}
	for line, want := range map[string]string{
		"--json --limit 1": `{"steps":[
			{"id":"q1","kind":"FormFlow","flow":"f1","key":"f1/7","sequence":1,"bytes":90,"at":"T"}],
			"more":true}`,
		"--json --limit 1 --kind FormFlow --flow f2": `{"steps":[
			{"id":"q2","kind":"FormFlow","flow":"f2","key":"f2/7","sequence":3,"bytes":90,"at":"T"}],
			"more":false}`,
		"--json --kind None": `{"steps":[],"more":false}`,
	} {
		r := run(t, "", append([]string{"work", "ls"}, strings.Fields(line)...)...)
		wantJSON(t, stored.ReplaceAllString(r.stdout, `"at": "T"`), want)
	}
	if got := s.holds(bus.StreamWork); len(got) != 3 {
		t.Errorf("looking took work away: %v", got)
	}
}

func TestWorkShow(t *testing.T) {
	s := newStage(t)
	s.putWork("FormFlow", "f1", "q1")
	s.putDead("FormFlow", "f1", "q2", body("FormFlow"))
	r := run(t, "", "work", "show", "q1", "--json")
	wantJSON(t, stored.ReplaceAllString(r.stdout, `"at": "T"`), `{"id":"q1","kind":"FormFlow","flow":"f1","key":"f1/7","sequence":1,
		"bytes":90,"at":"T","subject":"work.formflow.f1.q1",
		"headers":{"Nats-Msg-Id":"first-q1","Work-Id":"q1","Work-Key":"f1/7","Work-Kind":"FormFlow"},
		"body":{"queue_id":"x","name":"FormFlow","module_name":"m","method_name":"main","input_param":{}}}`)
	if r := run(t, "", "work", "show", "q2"); r.code != exitFailed || !strings.Contains(r.stderr, "try `omflow-booster dead show q2`") {
		t.Errorf("%+v", r)
	}
	if r := run(t, "", "work", "show", "q3"); r.code != exitFailed || !strings.Contains(r.stderr, "no step q3 waits or runs") {
		t.Errorf("%+v", r)
	}
}

// A server without a Booster's streams is not taken for an empty Booster.
func TestWorkListWithoutStreams(t *testing.T) {
	newBareStage(t)
	r := run(t, "", "work", "ls")
	if r.code != exitFailed || !strings.Contains(r.stderr, "stream WORK does not exist: the Booster is not ready yet") {
		t.Errorf("%+v", r)
	}
}
