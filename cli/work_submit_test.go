package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/micro"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/submission"
)

// serveSubmit offers what a worker offers: it gives every item a row, or answers as answer says for the nth request.
func (s *stage) serveSubmit(answer func(n int64, req micro.Request) (answered bool)) *atomic.Int64 {
	s.t.Helper()
	service, err := micro.AddService(s.c.NC, micro.Config{Name: bus.ServiceWorker, Version: bus.ServiceVersion})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = service.Stop() })
	var requests, rows atomic.Int64
	handle := func(req micro.Request) {
		if answer(requests.Add(1), req) {
			return
		}
		var r submission.Reply
		for _, line := range strings.Split(strings.TrimSuffix(string(req.Data()), "\n"), "\n") {
			r.Items = append(r.Items, struct {
				ID     string `json:"id"`
				Queued bool   `json:"queued"`
			}{fmt.Sprintf("o%d", rows.Add(1)), !strings.Contains(line, "Slow")})
		}
		_ = req.RespondJSON(r)
	}
	if err := service.AddEndpoint("submit", micro.HandlerFunc(handle), micro.WithEndpointSubject(bus.SubjectSubmit)); err != nil {
		s.t.Fatal(err)
	}
	if err := s.c.NC.Flush(); err != nil {
		s.t.Fatal(err)
	}
	return &rows
}

func always(int64, micro.Request) bool { return false }

func TestWorkSubmit(t *testing.T) {
	s := newStage(t)
	rows := s.serveSubmit(always)
	r := run(t, body("Mail")+"\n\n"+body("Slow")+"\n", "work", "submit")
	want := "ITEM  LINE  ID  STATE\n" +
		"1     1     o1  queued\n" +
		"2     3     o2  stored, is queued soon\n" +
		"2 items accepted, 1 of them stored and queued by a worker as soon as the Booster takes them.\n"
	if r.code != exitOK || r.stdout != want || r.stderr != "" {
		t.Errorf("%+v", r)
	}
	r = run(t, "["+body("Mail")+"]", "work", "submit", "-", "--json")
	wantJSON(t, r.stdout, `{"accepted":1,"queued":1,"unknown":0,"not_sent":0,"items":[{"item":1,"line":1,"id":"o3","queued":true}]}`)
	if r := run(t, "", "work", "submit", "-"); r.code != exitOK || r.stdout != "0 items accepted.\n" {
		t.Errorf("%+v", r)
	}
	if rows.Load() != 3 {
		t.Errorf("%d rows", rows.Load())
	}
}

func TestWorkSubmitFile(t *testing.T) {
	s := newStage(t)
	rows := s.serveSubmit(always)
	file := filepath.Join(t.TempDir(), "items.jsonl")
	if err := os.WriteFile(file, []byte(strings.Repeat(body("Mail")+"\n", 1200)), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := run(t, "", "work", "submit", file, "--skip", "100"); r.code != exitOK || r.stdout != "1,100 items accepted.\n" ||
		rows.Load() != 1100 {
		t.Errorf("%+v, %d rows", r, rows.Load())
	}
}

// A mistake anywhere in the input is found before the first item goes.
func TestWorkSubmitRefusesAll(t *testing.T) {
	s := newStage(t)
	rows := s.serveSubmit(always)
	r := run(t, strings.Repeat(body("Mail")+"\n", 600)+`{"name":"Mail"}`, "work", "submit")
	want := "omflow-booster: standard input: line 601: malformed item: module_name is missing; nothing was submitted\n"
	if r.code != exitUsage || r.stderr != want || rows.Load() != 0 {
		t.Errorf("%+v, %d rows", r, rows.Load())
	}
}

func TestWorkSubmitWithoutAWorker(t *testing.T) {
	newStage(t)
	r := run(t, body("Mail"), "work", "submit")
	if r.code != exitFailed || !strings.Contains(r.stderr, "no worker answers") {
		t.Errorf("%+v", r)
	}
}

// A full Booster makes the command wait; a worker that refuses for good ends it, with an account of what was accepted.
func TestWorkSubmitBackpressureAndRefusal(t *testing.T) {
	s := newStage(t)
	rows := s.serveSubmit(func(n int64, req micro.Request) bool {
		switch n {
		case 1:
			_ = req.Error("503", "the queue of the Booster is full", nil)
		case 3:
			_ = req.Error("413", "oversized item", nil)
		default:
			return false
		}
		return true
	})
	r := run(t, strings.Repeat(body("Mail")+"\n", 501), "work", "submit", "--json")
	if r.code != exitFailed || rows.Load() != 500 ||
		!strings.Contains(r.stderr, "the queue of the Booster is full (503); trying again in 250ms\n") {
		t.Errorf("code %d, %d rows, stderr %q", r.code, rows.Load(), r.stderr)
	}
	if !strings.Contains(r.stderr, "items 1 to 500 (lines 1 to 500) accepted; item 501 (line 501) not submitted; go on with --skip 500\n") {
		t.Errorf("stderr %q", r.stderr)
	}
	if !strings.Contains(r.stdout, `"accepted": 500`) || !strings.Contains(r.stdout, `"not_sent": 1`) ||
		!strings.Contains(r.stdout, `"error": "the worker answered`) {
		t.Errorf("stdout %s", r.stdout[len(r.stdout)-300:])
	}
}
