package submission

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/omflow-booster/omflow-booster/internal/work"
)

func TestParseItems(t *testing.T) {
	t.Parallel()
	mail := `{"queue_id":"x","name":"Mail","module_name":"m","method_name":"main","input_param":{}}`
	spread := "{\n \"queue_id\": \"x\",\n \"name\":\"Mail\", \"module_name\" : \"m\", \"method_name\":\"main\", \"input_param\":{}}"
	for _, c := range []struct {
		name  string
		in    string
		lines []int
		wrong string
	}{
		{"nothing", "", nil, ""},
		{"white space", " \n\n", nil, ""},
		{"one line", mail, []int{1}, ""},
		{"lines", mail + "\n" + mail + "\n", []int{1, 2}, ""},
		{"Windows lines and empty ones", "\r\n" + mail + "\r\n\r\n" + mail + "\r\n", []int{2, 4}, ""},
		{"two on a line", mail + mail + "\n" + mail, []int{1, 1, 2}, ""},
		{"over several lines", spread + "\n" + spread, []int{1, 4}, ""},
		{"empty array", " [ ] ", nil, ""},
		{"array", "[\n" + mail + ",\n\n" + mail + "\n]\n", []int{2, 4}, ""},
		{"array on one line", "[" + mail + "," + mail + "]", []int{1, 1}, ""},

		{"byte order mark", "\ufeff" + mail + "\r\n" + mail, []int{1, 2}, ""},
		{"byte order mark and an array", "\ufeff[" + mail + "]", []int{1}, ""},
		{"nothing but a byte order mark", "\ufeff", nil, ""},

		{"UTF-16", "\xff\xfe{\x00", nil, "line 1: malformed item: the input is UTF-16: save it as UTF-8"},
		{"UTF-16 of the other kind", "\xfe\xff\x00{", nil, "save it as UTF-8"},
		{"no JSON", mail + "\nhello\n", nil, "line 2: malformed item: invalid character 'h'"},
		{"cut off", mail + "\n" + mail[:20], nil, "line 2: malformed item: the input ends inside it"},
		{"array cut off", "[" + mail + ",\n" + mail, nil, "malformed item"},
		{"array without its end", "[" + mail, nil, "line 1: malformed item: the input ends inside it"},
		{"comma after the last of an array", "[" + mail + ",]", nil, "malformed item"},
		{"comma between items without an array", mail + ",\n" + mail, nil, "malformed item"},
		{"something after the array", "[" + mail + "]\n" + mail, nil, "line 2: malformed item: something follows the last item"},
		{"an end without an array", mail + "\n]", nil, "line 2: malformed item: something follows the last item"},
		{"no object", mail + "\n7", nil, "line 2: malformed item"},
		{"field missing", mail + "\n\n" + strings.Replace(mail, "Mail", "", 1), nil, "line 3: malformed item: name is missing"},
		{
			"too large", mail + "\n" + strings.Replace(mail, "{}", `"`+strings.Repeat("x", work.MaxItemBytes)+`"`, 1), nil,
			"line 2: oversized item",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			items, err := Parse([]byte(c.in))
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Fatalf("error %v, want %q", err, c.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var lines []int
			for i, item := range items {
				lines = append(lines, item.line)
				if string(item.body) != mail || item.number != i+1 {
					t.Errorf("item %d is number %d: %s", i+1, item.number, item.body)
				}
			}
			if !reflect.DeepEqual(lines, c.lines) {
				t.Errorf("lines %v, want %v", lines, c.lines)
			}
		})
	}
}

// What OMFLOW wrote stays as it is: only white space between values goes.
func TestParseItemsKeepsTexts(t *testing.T) {
	t.Parallel()
	in := `{"name":"A & <b>  日本","module_name":"m","method_name":"\u00e9","input_param":"{\"a\": 1.0}"}`
	items, err := Parse([]byte(" " + in + " "))
	if err != nil || len(items) != 1 || string(items[0].body) != in {
		t.Errorf("%v %+v", err, items)
	}
}

// itemsOf makes n items of a length, one on each line.
func itemsOf(n, length int) []Item {
	items := make([]Item, n)
	for i := range items {
		items[i] = Item{number: i + 1, line: i + 1, body: []byte(strings.Repeat("x", length))}
	}
	return items
}

func TestSplit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		items      []Item
		maxPayload int64
		want       []int
	}{
		{nil, 1 << 20, nil},
		{itemsOf(500, 10), 1 << 20, []int{500}},
		{itemsOf(1001, 10), 1 << 20, []int{500, 500, 1}},
		{itemsOf(5, 300<<10), 8 << 20, []int{3, 2}}, // a mebibyte at a time
		{itemsOf(5, 300<<10), 512 << 10, []int{1, 1, 1, 1, 1}},
		{itemsOf(2, 3<<20), 8 << 20, []int{1, 1}}, // larger than that, but the Booster takes it
		{itemsOf(4, 99), 200, []int{2, 2}},        // to the last byte
	} {
		chunks, err := Split(c.items, c.maxPayload)
		if err != nil {
			t.Fatal(err)
		}
		var lengths []int
		for _, chunk := range chunks {
			lengths = append(lengths, len(chunk))
		}
		if !reflect.DeepEqual(lengths, c.want) {
			t.Errorf("%d items: %v, want %v", len(c.items), lengths, c.want)
		}
	}
	if _, err := Split(itemsOf(1, 200), 200); !errors.Is(err, work.ErrOversized) {
		t.Errorf("error %v", err)
	}
}

// fakeWorker answers requests as its script says: nil for an answer, or an error.
type fakeWorker struct {
	script []error
	calls  int
	rows   int
}

func (f *fakeWorker) request(_ context.Context, body []byte) (Reply, error) {
	err := error(nil)
	if f.calls < len(f.script) {
		err = f.script[f.calls]
	}
	f.calls++
	if err != nil {
		return Reply{}, err
	}
	var r Reply
	for range strings.Count(string(body), "\n") {
		f.rows++
		r.Items = append(r.Items, struct {
			ID     string `json:"id"`
			Queued bool   `json:"queued"`
		}{fmt.Sprintf("o%d", f.rows), true})
	}
	return r, nil
}

func TestSubmitter(t *testing.T) {
	t.Parallel()
	busy := &refusal{503, "the queue is full"}
	wrong := &refusal{400, "item 3: malformed"}
	for _, c := range []struct {
		name     string
		script   []error
		timeout  time.Duration
		calls    int
		accepted int
		unknown  int
		failure  error
		says     string
	}{
		{name: "all is well", calls: 3, accepted: 1200},
		{
			name: "busy for a moment", script: []error{busy, nil, busy, busy}, calls: 6, accepted: 1200,
		},
		{
			name: "busy for too long", script: []error{nil, busy, busy}, timeout: time.Nanosecond, calls: 2, accepted: 500, failure: busy,
			says: "the worker answered: the queue is full (503); items 1 to 500 (lines 1 to 500) accepted; items 501 to 1200 (lines 501 to " +
				"1200) not submitted; go on with --skip 500",
		},
		{
			name: "refused", script: []error{wrong}, calls: 1, failure: wrong,
			says: "the worker answered: item 3: malformed (400); nothing was submitted",
		},
		{
			name: "no worker from the start", script: []error{nats.ErrNoResponders}, calls: 1, failure: nats.ErrNoResponders,
			says: "no worker answers: start one with `omflow-booster worker` or an agent, and look at `omflow-booster status`; " +
				"nothing was submitted",
		},
		{
			name: "the worker restarts in between", script: []error{nil, nats.ErrNoResponders, nil}, calls: 4, accepted: 1200,
		},
		{
			name: "the answer is lost", script: []error{nil, context.DeadlineExceeded}, calls: 2, accepted: 500, unknown: 500,
			failure: context.DeadlineExceeded,
			says: "a worker took the request but did not answer in 15s; items 1 to 500 (lines 1 to 500) accepted; " +
				"whether items 501 to 1000 (lines 501 to 1000) are accepted is not known; items 1001 to 1200 (lines 1001 to 1200) not submitted; " +
				"go on with --skip 500, or with --skip 1000 if `omflow-booster work ls` shows that they are",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := &fakeWorker{script: c.script}
			timeout := c.timeout
			if timeout == 0 {
				timeout = time.Minute
			}
			progress := 0
			s := submitter{
				request: f.request, timeout: timeout, pause: time.Millisecond,
				Watcher: Watcher{func(done int) { progress = done }, func(error, time.Duration) {}},
			}
			items := itemsOf(1200, 10)
			chunks, err := Split(items, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			failure := s.run(context.Background(), chunks)
			if !errors.Is(failure, c.failure) || f.calls != c.calls || len(s.accepted) != c.accepted || s.unknown != c.unknown ||
				progress != c.accepted {
				t.Errorf("failure %v, %d calls, %d accepted, %d unknown, progress %d", failure, f.calls, len(s.accepted), s.unknown, progress)
			}
			if failure == nil {
				return
			}
			report := Report{Accepted: len(s.accepted), Unknown: s.unknown, NotSent: len(items) - len(s.accepted) - s.unknown}
			if got := explain(failure, items, report).Error(); got != c.says {
				t.Errorf("says\n%s\nwant\n%s", got, c.says)
			}
		})
	}
}

// An answer for another number of items says nothing about ours.
func TestSubmitterDoesNotTrustAShortAnswer(t *testing.T) {
	t.Parallel()
	s := submitter{
		request: func(context.Context, []byte) (Reply, error) { return Reply{}, nil },
		timeout: time.Minute, pause: time.Millisecond, Watcher: Watcher{func(int) {}, func(error, time.Duration) {}},
	}
	if err := s.run(context.Background(), [][]Item{itemsOf(2, 10)}); err == nil || s.unknown != 2 || len(s.accepted) != 0 {
		t.Errorf("error %v, %+v", err, s)
	}
}

func TestSubmitterEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	s := submitter{
		request: func(context.Context, []byte) (Reply, error) { return Reply{}, &refusal{503, "busy"} },
		timeout: 2 * time.Hour, pause: time.Hour, Watcher: Watcher{func(int) {}, func(error, time.Duration) { cancel() }},
	}
	if err := s.run(ctx, [][]Item{itemsOf(1, 10)}); !errors.Is(err, context.Canceled) || s.unknown != 0 {
		t.Errorf("error %v, %+v", err, s)
	}
}
