package cli

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

// What cannot go well is refused before anything is published.
func TestPatchThatNoServerCouldTakeIsNotPublished(t *testing.T) {
	s := newStage(t)
	useJoinFile(t)
	s.putNode(runningServer("srv1", "1.1.4"))
	dir := files(t, map[string]string{"omflow/a.py": "new"})
	for flag, want := range map[string]string{
		"--canary=nobody": "--canary nobody: no agent of that name is alive; there is srv1",
		"--from=9.9":      "--from 9.9: no server has that version: srv1 has 1.1.4",
	} {
		if r := run(t, "", "patch", "publish", dir, flag); r.code != exitUsage || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: %+v", flag, r)
		}
	}
	if list, err := patch.List(s.ctx, s.c.JS); err != nil || len(list) != 0 {
		t.Fatal(list, err)
	}
	for _, more := range []string{"--from=1.1.4 --to=1.1.5 --canary=srv1", "--from=1.1.5"} { // the second one is for those that have the first
		if r := run(t, "", append([]string{"patch", "publish", dir}, strings.Fields(more)...)...); r.code != exitOK {
			t.Errorf("%s: %+v", more, r)
		}
	}
}

// What the manifest alone tells is said before the rest of an artifact is read.
func TestManifestAloneTellsThatNoServerHasTheVersion(t *testing.T) {
	s := newStage(t)
	useJoinFile(t)
	s.putNode(runningServer("srv1", "1.1.4"))
	large := make([]byte, 4<<20)
	_, _ = rand.Read(large)
	artifact := filepath.Join(t.TempDir(), "p.tar.zst")
	if r := run(t, "", "patch", "build", files(t, map[string]string{"omflow/a.bin": string(large)}), artifact,
		"--from=9.9"); r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	if err := os.Truncate(artifact, 3<<20); err != nil { // a reader that goes on finds that out
		t.Fatal(err)
	}
	if r := run(t, "", "patch", "publish", artifact); r.code != exitUsage ||
		!strings.Contains(r.stderr, "--from 9.9: no server has that version") {
		t.Errorf("%+v", r)
	}
}

// Approval and pause are two things, and what is over is not changed.
func TestOrdersAboutARollout(t *testing.T) {
	s := newStage(t)
	useJoinFile(t)
	s.putNode(runningServer("srv1", ""))
	dir := files(t, map[string]string{"omflow/a.py": "new"})
	if r := run(t, "", "patch", "publish", dir, "--approval"); r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	list, err := patch.List(s.ctx, s.c.JS)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	id := list[0].ID
	order := func(name string, code int, want string) {
		t.Helper()
		r := run(t, "", "patch", name, id)
		if r.code != code || !strings.Contains(r.stdout+r.stderr, fmt.Sprintf(want, id)) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	state := func(want string) {
		t.Helper()
		p, _, err := rollout.Read(s.ctx, s.c.JS, id)
		if err != nil || p.State != want {
			t.Errorf("%+v %v", p, err)
		}
	}
	order("resume", exitFailed, "the rollout of %[1]s waits for approval: omflow-booster patch approve %[1]s")
	order("pause", exitOK, "rollout of %s: paused")
	status := func(want string, there bool) {
		t.Helper()
		if r := run(t, "", "status"); strings.Contains(r.stdout, fmt.Sprintf(want, id)) != there {
			t.Errorf("%+v", r)
		}
	}
	status("WARNING: patch %s is paused by ", true)
	status("`omflow-booster patch resume %s` has it go on", true)
	order("resume", exitOK, "rollout of %[1]s: waits for approval; omflow-booster patch approve %[1]s")
	state(rollout.StateApproval)
	status("WARNING: patch %s waits for approval", true)
	status("`omflow-booster patch approve %s`", true)
	order("pause", exitOK, "rollout of %s: paused")
	order("approve", exitOK, "rollout of %s: approved")
	state(rollout.StatePaused)
	order("approve", exitFailed, "the rollout of %s was approved by ")
	if r := run(t, "", "patch", "show", id); !strings.Contains(r.stdout, "approved by ") {
		t.Errorf("%+v", r)
	}
	order("resume", exitOK, "rollout of %s: going on")
	state(rollout.StateRunning)
	order("resume", exitFailed, "the rollout of %s is not paused")

	if err := patch.PutReport(s.ctx, s.c.JS, patch.Report{Patch: id, Node: "srv1", State: patch.StateApplied}); err != nil {
		t.Fatal(err)
	}
	order("pause", exitFailed, "the rollout of %[1]s is over: every server is through with it. To take it back: omflow-booster patch "+
		"rollback %[1]s")
	order("abort", exitFailed, "the rollout of %s is over")
	state(rollout.StateRunning)
	if err := rollout.Pause(s.ctx, s.c.JS, id, "somebody", ""); err != nil {
		t.Fatal(err)
	}
	status("patch %s is paused", false) // nobody waits for it
}

// A plan that is not JSON is named, and an abort replaces it.
func TestAbortReplacesAPlanThatCannotBeRead(t *testing.T) {
	s := newStage(t)
	useJoinFile(t)
	s.putNode(runningServer("srv1", ""))
	if r := run(t, "", "patch", "publish", files(t, map[string]string{"omflow/a.py": "new"})); r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	list, err := patch.List(s.ctx, s.c.JS)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	id := list[0].ID
	if _, err := s.c.JS.Publish(s.ctx, bus.KeySubject(bus.BucketRollout, bus.PlanPrefix+bus.Token(id)), []byte("not JSON")); err != nil {
		t.Fatal(err)
	}
	if r := run(t, "", "status"); !strings.Contains(r.stdout, "patch "+id+" goes to no further server, because its plan cannot be read: ") {
		t.Errorf("%+v", r)
	}
	if r := run(t, "", "patch", "pause", id); r.code != exitFailed ||
		!strings.Contains(r.stderr, "omflow-booster patch abort "+id+" replaces it") {
		t.Errorf("%+v", r)
	}
	if r := run(t, "", "patch", "abort", id, "--note=spoilt"); r.code != exitOK {
		t.Errorf("%+v", r)
	}
	if p, _, err := rollout.Read(s.ctx, s.c.JS, id); err != nil || p.State != rollout.StateAborted || p.Reason != "spoilt" {
		t.Errorf("%+v %v", p, err)
	}
}
