package cli

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/deadletter"
)

// bothStreams is the whole state that retry and purge work on.
type bothStreams struct{ Dead, Work []string }

func (s *stage) both() bothStreams {
	s.t.Helper()
	return bothStreams{Dead: s.holds(bus.StreamDead), Work: s.holds(bus.StreamWork)}
}

// discard is what a purge that was interrupted leaves on WORK.
func (s *stage) discard(kind, flow, id string) {
	s.t.Helper()
	s.publish(bus.WorkSubject(kind, flow, id), body(kind), bus.HeaderID, id, bus.HeaderKind, kind, bus.HeaderDiscard, "true")
}

func TestDeadRetryAndPurge(t *testing.T) { //nolint:funlen // one story, step after step
	none := []string{}
	for _, c := range []struct {
		name   string
		before func(s *stage)
		line   string
		code   int
		stdout string
		after  bothStreams
	}{
		{
			name:   "retry queues the step and then removes it",
			before: func(s *stage) { s.putDead("FormFlow", "f1", "q1", body("FormFlow")) },
			line:   "retry q1",
			stdout: "q1 retried\n",
			after:  bothStreams{none, []string{"q1"}},
		},
		{
			name: "retry after a crash between its two operations",
			before: func(s *stage) {
				s.putDead("FormFlow", "f1", "q1", body("FormFlow"))
				s.putWork("FormFlow", "f1", "q1")
			},
			line:   "retry q1",
			stdout: "q1 retried: was queued already\n",
			after:  bothStreams{none, []string{"q1"}},
		},
		{
			name: "retry after a crash between its two operations, and the step is done meanwhile",
			before: func(s *stage) {
				s.putDead("FormFlow", "f1", "q1", body("FormFlow"))
				s.interrupted("q1", false)
				s.take()
			},
			line:   "retry q1",
			stdout: "q1 retried\n",
			after:  bothStreams{none, none},
		},
		{
			name: "retry of a step whose purge is under way",
			before: func(s *stage) {
				s.putDead("FormFlow", "f1", "q1", body("FormFlow"))
				s.discard("FormFlow", "f1", "q1")
			},
			line:   "retry q1",
			code:   exitFailed,
			stdout: "q1 kept: a purge of it is under way\n",
			after:  bothStreams{[]string{"q1"}, []string{"q1 discard"}},
		},
		{
			name:   "retry of an item that was not kept",
			before: func(s *stage) { s.putDead("FormFlow", "f1", "q1", "") },
			line:   "retry q1",
			stdout: "q1 retried: its row is read again within seconds\n",
			after:  bothStreams{none, none}, // a reconciler brings it back, to WORK or DEAD
		},
		{
			name:   "retry of what a stranger published",
			before: func(s *stage) { s.putDead("x", "y", "z", "hello") },
			line:   "retry --all",
			code:   exitFailed,
			stdout: "z kept: it names no row, so no worker can run it; it can be purged\n",
			after:  bothStreams{[]string{"z"}, none},
		},
		{
			name:   "purge of what a stranger published",
			before: func(s *stage) { s.putDead("x", "y", "z", "hello") },
			line:   "purge --kind x --yes",
			stdout: "z purged\n",
			after:  bothStreams{none, none},
		},
		{
			name: "retry of several, one of which is not dead",
			before: func(s *stage) {
				s.putDead("FormFlow", "f1", "q1", body("FormFlow"))
				s.putDead("Mail", "", "o2", body("Mail"))
			},
			line:   "retry o2 q9 q1",
			code:   exitFailed,
			stdout: "o2 retried\nq9 not dead\nq1 retried\n",
			after:  bothStreams{none, []string{"o2", "q1"}},
		},
		{
			name:   "retry by kind, written as people know it",
			before: putThreeDead,
			line:   "retry --kind FormFlow",
			stdout: "q1 retried\nq2 retried\n",
			after:  bothStreams{[]string{"o3"}, []string{"q1", "q2"}},
		},
		{
			name:   "retry by kind and flow",
			before: putThreeDead,
			line:   "retry --kind FormFlow --flow f2",
			stdout: "q2 retried\n",
			after:  bothStreams{[]string{"q1", "o3"}, []string{"q2"}},
		},
		{
			name:   "retry of all",
			before: putThreeDead,
			line:   "retry --all",
			stdout: "q1 retried\nq2 retried\no3 retried\n",
			after:  bothStreams{none, []string{"q1", "q2", "o3"}},
		},
		{
			name:   "retry of all when nothing is dead",
			before: func(*stage) {},
			line:   "retry --all",
			stdout: "No dead step.\n",
			after:  bothStreams{none, none},
		},
		{
			name:   "purge orders a worker to remove the row and then removes the step",
			before: func(s *stage) { s.putDead("FormFlow", "f1", "q1", body("FormFlow")) },
			line:   "purge q1 --yes",
			stdout: "q1 purged\n",
			after:  bothStreams{none, []string{"q1 discard"}},
		},
		{
			name:   "purge of an item that was not kept",
			before: func(s *stage) { s.putDead("FormFlow", "f1", "q1", "") },
			line:   "purge q1 --yes",
			stdout: "q1 purged\n",
			after:  bothStreams{none, []string{"q1 discard"}},
		},
		{
			name: "purge after a crash between its two operations",
			before: func(s *stage) {
				s.putDead("FormFlow", "f1", "q1", body("FormFlow"))
				s.discard("FormFlow", "f1", "q1")
			},
			line:   "purge q1 --yes",
			stdout: "q1 purged\n",
			after:  bothStreams{none, []string{"q1 discard"}},
		},
		{
			name: "purge after a crash between its two operations, and the row is gone meanwhile",
			before: func(s *stage) {
				s.putDead("FormFlow", "f1", "q1", body("FormFlow"))
				s.interrupted("q1", true)
				s.take()
			},
			line:   "purge q1 --yes",
			stdout: "q1 purged\n",
			after:  bothStreams{none, none},
		},
		{
			name: "purge of a step that is queued again",
			before: func(s *stage) {
				s.putDead("FormFlow", "f1", "q1", body("FormFlow"))
				s.putWork("FormFlow", "f1", "q1")
			},
			line:   "purge q1 --yes",
			code:   exitFailed,
			stdout: "q1 kept: it is queued again, so it was left alone\n",
			after:  bothStreams{[]string{"q1"}, []string{"q1"}},
		},
		{
			name:   "purge by flow",
			before: putThreeDead,
			line:   "purge --flow f1 --yes",
			stdout: "q1 purged\n",
			after:  bothStreams{[]string{"q2", "o3"}, []string{"q1 discard"}},
		},
		{
			name:   "purge without a yes",
			before: putThreeDead,
			line:   "purge --all",
			code:   exitUsage,
			after:  bothStreams{[]string{"q1", "q2", "o3"}, none},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t)
			c.before(s)
			r := run(t, "y\n", append([]string{"dead"}, strings.Fields(c.line)...)...)
			if r.code != c.code || r.stdout != c.stdout {
				t.Errorf("code %d, stdout %q, stderr %q; want code %d, stdout %q", r.code, r.stdout, r.stderr, c.code, c.stdout)
			}
			if got := s.both(); !reflect.DeepEqual(got, c.after) {
				t.Errorf("left %+v, want %+v", got, c.after)
			}
		})
	}
}

func putThreeDead(s *stage) {
	s.putDead("FormFlow", "f1", "q1", body("FormFlow"))
	s.putDead("FormFlow", "f2", "q2", body("FormFlow"))
	s.putDead("Mail", "", "o3", body("Mail"))
}

// interrupted does the first operation of a retry or purge, and not the second.
func (s *stage) interrupted(id string, discard bool) {
	s.t.Helper()
	dead, err := bus.OpenStream(s.ctx, s.c.JS, bus.StreamDead)
	if err != nil {
		s.t.Fatal(err)
	}
	for m, err := range bus.Messages(s.ctx, dead, "dead.*.*."+id) {
		if err != nil {
			s.t.Fatal(err)
		}
		msg := bus.RetryMessage(m)
		if discard {
			msg = bus.DiscardMessage(m)
		}
		if _, err := s.c.JS.PublishMsg(s.ctx, msg); err != nil {
			s.t.Fatal(err)
		}
	}
}

// What a worker receives after a retry or purge: body and identity as they were, nothing of the death, and a message id
// that is not the one of the first life.
func TestDeadMessagesForWorkers(t *testing.T) {
	for _, c := range []struct {
		verb    string
		headers map[string]string
	}{
		{"retry", map[string]string{
			"Work-Id": "q1", "Work-Kind": "FormFlow", "Work-Key": "f1/7", "Nats-Msg-Id": "omflow-queue-1-retry-1",
			"Work-Check": "true",
		}},
		{"purge", map[string]string{
			"Work-Id": "q1", "Work-Kind": "FormFlow", "Work-Key": "f1/7", "Nats-Msg-Id": "omflow-queue-1-discard-1", "Work-Discard": "true",
		}},
	} {
		t.Run(c.verb, func(t *testing.T) {
			s := newStage(t)
			s.putDead("FormFlow", "f1", "q1", body("FormFlow"))
			args := []string{"dead", c.verb, "q1"}
			if c.verb == "purge" {
				args = append(args, "--yes")
			}
			if r := run(t, "", args...); r.code != exitOK {
				t.Fatalf("%+v", r)
			}
			m := s.take()
			got := map[string]string{}
			for name := range m.Headers() {
				got[name] = m.Headers().Get(name)
			}
			if !reflect.DeepEqual(got, c.headers) || string(m.Data()) != body("FormFlow") || m.Subject() != "work.formflow.f1.q1" {
				t.Errorf("%s %v %s", m.Subject(), got, m.Data())
			}
		})
	}
}

// A step that dies again while the command works on its first death keeps the second.
func TestRetryLeavesANewerDeath(t *testing.T) {
	s := newStage(t)
	s.putDead("FormFlow", "f1", "q1", body("FormFlow"))
	queue, err := deadletter.Open(s.ctx, s.c.JS)
	if err != nil {
		t.Fatal(err)
	}
	dead, err := bus.OpenStream(s.ctx, s.c.JS, bus.StreamDead)
	if err != nil {
		t.Fatal(err)
	}
	for m, err := range bus.Messages(s.ctx, dead, "dead.>") {
		if err != nil {
			t.Fatal(err)
		}
		s.putDead("FormFlow", "f1", "q1", body("FormFlow"))
		if _, err := queue.Retry(s.ctx, m); err != nil {
			t.Fatal(err)
		}
	}
	want := bothStreams{[]string{"q1"}, []string{"q1"}}
	if got := s.both(); !reflect.DeepEqual(got, want) {
		t.Errorf("left %+v, want %+v", got, want)
	}
}

// A full WORK ends the run with what was done; the rest stays dead.
func TestRetryIntoAFullStream(t *testing.T) {
	s := newStage(t)
	putThreeDead(s)
	stream, err := bus.OpenStream(s.ctx, s.c.JS, bus.StreamWork)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxMsgs = 2
	if _, err := s.c.JS.UpdateStream(s.ctx, cfg); err != nil {
		t.Fatal(err)
	}
	r := run(t, "", "dead", "retry", "--all")
	if r.code != exitFailed || r.stdout != "q1 retried\nq2 retried\n" ||
		!strings.Contains(r.stderr, "no room for more work") || !strings.Contains(r.stderr, "(2 steps done before)") {
		t.Errorf("%+v", r)
	}
	want := bothStreams{[]string{"o3"}, []string{"q1", "q2"}}
	if got := s.both(); !reflect.DeepEqual(got, want) {
		t.Errorf("left %+v, want %+v", got, want)
	}
}

func TestDeadChangeJSON(t *testing.T) {
	s := newStage(t)
	putThreeDead(s)
	r := run(t, "", "dead", "retry", "q1", "q9", "--json")
	if r.code != exitFailed || r.stderr != "" {
		t.Errorf("%+v", r)
	}
	wantJSON(t, r.stdout, `{"done":1,"not_done":1,"steps":[{"id":"q1","result":"retried"},{"id":"q9","result":"not_dead"}]}`)
}

var anAge = regexp.MustCompile(`\d+(ms|s|m\d+s|m) ago`)

func TestDeadList(t *testing.T) {
	s := newStage(t)
	if r := run(t, "", "dead", "ls"); r.code != exitOK || r.stdout != "No dead step.\n" {
		t.Errorf("%+v", r)
	}
	wantJSON(t, run(t, "", "dead", "ls", "--json").stdout, `{"steps":[],"more":false}`)

	putThreeDead(s)
	r := run(t, "", "dead", "ls", "--limit", "2")
	want := "ID  KIND      FLOW  KEY   ATTEMPTS  DIED    WORKER  REASON             ERROR\n" +
		"q1  FormFlow  f1    f1/7  5         AGE ago  w1      5 attempts failed  boom\n" +
		"q2  FormFlow  f2    f2/7  5         AGE ago  w1      5 attempts failed  boom\n" +
		"… and more: raise --limit, or choose by --flow and --kind\n"
	if got := squeeze(anAge.ReplaceAllString(r.stdout, "AGE ago")); got != squeeze(want) {
		t.Errorf("got\n%s\nwant\n%s", got, squeeze(want))
	}
	r = run(t, "", "dead", "ls", "--flow", "f2", "--json")
	at := regexp.MustCompile(`"at": "[^"]+"`).ReplaceAllString(r.stdout, `"at": "T"`)
	wantJSON(t, at, `{"steps":[{"id":"q2","kind":"FormFlow","flow":"f2","key":"f2/7","sequence":2,"bytes":90,"at":"T","attempts":"5",
		"reason":"5 attempts failed","error":"boom","worker":"w1","empty":false}],"more":false}`)
}

// squeeze makes texts comparable whose ages have different lengths.
func squeeze(s string) string { return regexp.MustCompile(` +`).ReplaceAllString(s, " ") }

func TestDeadShow(t *testing.T) {
	s := newStage(t)
	s.putDead("FormFlow", "f1", "q1", body("FormFlow"))
	s.putDead("FormFlow", "f1", "q2", "")
	s.putWork("FormFlow", "f1", "q3")
	r := run(t, "", "dead", "show", "q1")
	for _, want := range []string{
		"Dead-Error    boom\n", "Dead-Reason   5 attempts failed\n", "Work-Attempt  5\n",
		`  "module_name": "m",` + "\n",
	} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("%q is missing in\n%s", want, r.stdout)
		}
	}
	if strings.Contains(r.stdout, "Nats-Stream") {
		t.Errorf("headers of the answer are shown:\n%s", r.stdout)
	}
	if r := run(t, "", "dead", "show", "q2"); !strings.Contains(r.stdout, "(no body: the item could not be carried, see Dead-Error)") {
		t.Errorf("%+v", r)
	}
	if r := run(t, "", "dead", "show", "q3"); r.code != exitFailed ||
		!strings.Contains(r.stderr, "no step q3 is dead; try `omflow-booster work show q3`") {
		t.Errorf("%+v", r)
	}
	if r := run(t, "", "dead", "show", "q4"); r.code != exitFailed || !strings.Contains(r.stderr, "no step q4 is dead: it is done") {
		t.Errorf("%+v", r)
	}
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]bool{
		"y\n": true, "YES\n": true, "y": true, "\n": false, "": false, "n\n": false,
		"yesterday\n": false,
	} {
		var out strings.Builder
		got, err := confirm(strings.NewReader(answer), &out, "Remove it?")
		if err != nil || got != want || out.String() != "Remove it? [y/N] " {
			t.Errorf("%q: %v, %v, %q", answer, got, err, out.String())
		}
	}
}

func TestSearchNamesWhatIsMeant(t *testing.T) {
	t.Parallel()
	ids, err := parseIDs([]string{"q1", "o2"})
	if err != nil {
		t.Fatal(err)
	}
	for want, s := range map[string]deadletter.Search{
		"dead q1, o2":                            {IDs: ids},
		"EVERY dead step":                        {},
		"every dead step of kind Mail":           {Chosen: bus.Selection{Kind: "Mail"}},
		"every dead step of kind Mail of flow f": {Chosen: bus.Selection{Kind: "Mail", Flow: "f"}},
	} {
		if got := nameSearch(s); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// The worker's clock may be unreadable; then the time of the message serves.
func TestDescribeDeadWithoutTime(t *testing.T) {
	t.Parallel()
	stored := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	d := describeDead(&jetstream.RawStreamMsg{Subject: "dead.mail.-.o1", Time: stored, Header: nats.Header{"Dead-At": {"yesterday"}}})
	if !d.At.Equal(stored) || !d.Empty || d.Flow != "" || d.ID != "o1" {
		t.Errorf("%+v", d)
	}
}
