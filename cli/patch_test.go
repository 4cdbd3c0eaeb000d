package cli

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// files makes a directory of files.
func files(t *testing.T, contents map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range contents {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestPatchIsPublishedAndListed(t *testing.T) {
	s := newStage(t)
	useJoinFile(t)
	if r := run(t, "", "patch", "ls"); r.code != exitOK || r.stdout != "no patch was published yet\n" {
		t.Fatalf("%+v", r)
	}
	r := run(t, "", "patch", "ls", "--json")
	wantJSON(t, r.stdout, `{"patches": []}`)

	dir := files(t, map[string]string{"omflow/a.py": "new", "omflow/__pycache__/a.pyc": "no"})
	r = run(t, "", "patch", "publish", dir, "--json", "--from", "1.1.4", "--to", "1.1.5", "--note", "leave form", "--author", "eve",
		"--delete", "omflow/old.py")
	if r.code != exitOK || r.stderr != "" {
		t.Fatalf("%+v", r)
	}
	var first diagnosis.Patch
	if err := json.Unmarshal([]byte(r.stdout), &first); err != nil {
		t.Fatal(err)
	}
	if first.Seq != 1 || first.Files != 1 || first.Deletions != 1 || first.Bytes != 3 || first.From != "1.1.4" || first.To != "1.1.5" {
		t.Fatalf("%+v", first)
	}
	r = run(t, "", "patch", "publish", dir)
	if r.code != exitOK || !strings.Contains(r.stdout, ": 1 file, 3 B\n") {
		t.Fatalf("%+v", r)
	}

	finished := time.Now().UTC().Truncate(time.Second)
	for _, report := range []patch.Report{
		{Patch: first.ID, Node: "srv1", State: patch.StateApplied, Finished: finished},
		{Patch: first.ID, Node: "srv2", State: patch.StateFailed, Error: "no\nplace", Finished: finished},
		{Patch: first.ID, Node: "srv4", State: patch.StateRolledBack, Error: "not healthy", Finished: finished},
	} {
		if err := patch.PutReport(s.ctx, s.c.JS, report); err != nil {
			t.Fatal(err)
		}
	}
	s.putNode(bus.Node{Role: bus.ServiceAgent, Name: "srv3", At: time.Now()})
	s.putNode(bus.Node{Role: bus.ServiceWorker, Name: "srv3", At: time.Now()})
	r = run(t, "", "patch", "ls")
	for _, part := range []string{
		"applied srv1; waiting srv3; rolled back srv4; failed srv2",
		first.ID + " rolled back on srv4: not healthy", "leave form", "eve", first.ID + " failed on srv2: no place",
	} {
		if !strings.Contains(r.stdout, part) {
			t.Errorf("%q is missing in\n%s", part, r.stdout)
		}
	}
	var listed struct{ Patches []diagnosis.Patch }
	if err := json.Unmarshal([]byte(run(t, "", "patch", "ls", "--json").stdout), &listed); err != nil {
		t.Fatal(err)
	}
	if len(listed.Patches) != 2 || listed.Patches[0].ID != first.ID || listed.Patches[1].Seq != 2 {
		t.Fatalf("%+v", listed)
	}
	states := ""
	for _, n := range listed.Patches[0].Nodes {
		states += n.Node + " " + n.State + ", "
	}
	if states != "srv1 applied, srv2 failed, srv4 rolled back, srv3 waiting, " {
		t.Error(states)
	}
}

func TestPatchThatAgentsWouldRefuseIsWrongUsage(t *testing.T) {
	newStage(t)
	useJoinFile(t)
	for says, line := range map[string][]string{
		"no such file":                     {"publish", "/no/such/dir"},
		"not a directory":                  {"build", os.Args[0], filepath.Join(t.TempDir(), "x")},
		"uploads/x belongs to each server": {"publish", files(t, map[string]string{"uploads/x": "x"})},
		"no files":                         {"publish", files(t, nil)},
		"plain path below OMFLOW_HOME":     {"publish", files(t, map[string]string{"x": "x"}), "--delete", "../x"},
		"possible are none, runners, serv": {"publish", files(t, map[string]string{"x": "x"}), "--restart", "all"},
		"migrate goes with restart server": {"publish", files(t, map[string]string{"x": "x"}), "--restart", "none", "--migrate"},
		"requirements for pip":             {"publish", files(t, map[string]string{"x": "x"}), "--pip", "/etc/req.txt"},
		"--migrate is for a directory":     {"publish", os.Args[0], "--migrate"},
		"wants one directory":              {"publish"},
		"wants a directory and a FILE":     {"build", "x"},
		"unknown flag":                     {"ls", "--jsno"},
		"unexpected":                       {"ls", "x"},
	} {
		r := run(t, "", append([]string{"patch"}, line...)...)
		if r.code != exitUsage || !strings.Contains(r.stderr, says) || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%s: %+v", says, r)
		}
	}
}

func TestPatchWithoutBooster(t *testing.T) {
	useBooster(t, "nats://127.0.0.1:1")
	useJoinFile(t)
	for _, line := range [][]string{{"patch", "ls"}, {"patch", "publish", files(t, map[string]string{"x": "x"})}} {
		if r := run(t, "", line...); r.code != exitFailed || !strings.Contains(r.stderr, "no Booster answers") {
			t.Errorf("%v: %+v", line, r)
		}
	}
}

// Ctrl-C while looking on is no failure, and does not end the rollout.
func TestFollowingAPatchMayBeInterrupted(t *testing.T) {
	s := newStage(t)
	useJoinFile(t)
	s.putNode(bustest.AgentNode("om1", func(s *bus.AgentState) { s.PatchSeq = 0 })) // it never applies the patch
	var published struct{ ID string }
	r := run(t, "", "patch", "publish", files(t, map[string]string{"x": "x"}), "--json")
	if err := json.Unmarshal([]byte(r.stdout), &published); err != nil || published.ID == "" {
		t.Fatalf("%v %+v", err, r)
	}
	for name, after := range map[string]time.Duration{"before the first look": 0, "while it waits": 2 * followEvery} {
		ctx, cancel := context.WithTimeout(s.ctx, after)
		defer cancel()
		said, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
		if err != nil {
			t.Fatal(err)
		}
		app := &App{Stdout: io.Discard, Stderr: said}
		if err := app.followPatch(ctx, s.c, published.ID, &output{stdout: io.Discard}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_ = said.Close()
		if text, _ := os.ReadFile(said.Name()); !strings.Contains(string(text), "The rollout of "+published.ID+" goes on") {
			t.Errorf("%s: %q", name, text)
		}
	}
}
