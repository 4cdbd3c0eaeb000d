package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

// built is a patch as a file.
func built(t *testing.T, name string, options ...string) string {
	t.Helper()
	file := t.TempDir() + "/" + name
	dir := files(t, map[string]string{"omflow/" + name: "new"})
	if r := run(t, "", append([]string{"patch", "build", dir, file}, options...)...); r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	return file
}

// announced is the patch that was announced last.
func (s *stage) announced() patch.Announcement {
	s.t.Helper()
	list, err := patch.List(s.ctx, s.c.JS)
	if err != nil || len(list) == 0 {
		s.t.Fatal(list, err)
	}
	return list[len(list)-1]
}

// putAgent has an agent say that it lives.
func (s *stage) putAgent(name string, change func(*bus.AgentState)) {
	s.t.Helper()
	n := runningServer(name, "")
	n.Agent.PatchState = "current"
	change(n.Agent)
	s.putNode(n)
}

// says fails the test unless `status`, `nodes` and `doctor` each say all of these, or none of them.
func (s *stage) says(there bool, wanted ...string) {
	s.t.Helper()
	for _, command := range []string{"status", "nodes", "doctor"} {
		r := run(s.t, "", command)
		if command == "status" && r.code != exitWarnings || command == "nodes" && r.code != exitOK {
			s.t.Errorf("%s ends with code %d", command, r.code)
		}
		for _, text := range wanted {
			if strings.Contains(r.stdout, text) != there {
				s.t.Errorf("%s: want %q: %t\n%s%s", command, text, there, r.stdout, r.stderr)
			}
		}
	}
}

// An artifact that somebody removed, overwrote or cut is named while servers wait for it, also by those that are not there yet.
func TestArtifactThatServersCannotGetIsNamed(t *testing.T) {
	for damage, do := range map[string]func(s *stage, objects jetstream.ObjectStore, a patch.Announcement) error{
		"removed": func(s *stage, objects jetstream.ObjectStore, a patch.Announcement) error {
			return objects.Delete(s.ctx, a.Object)
		},
		"overwritten": func(s *stage, objects jetstream.ObjectStore, a patch.Announcement) error {
			_, err := objects.PutString(s.ctx, a.Object, "something else")
			return err
		},
		"cut": func(s *stage, objects jetstream.ObjectStore, a patch.Announcement) error {
			info, err := objects.GetInfo(s.ctx, a.Object)
			if err != nil {
				return err
			}
			stream, err := s.c.JS.Stream(s.ctx, bus.ObjectStream(bus.ObjectPatches))
			if err != nil {
				return err
			}
			return stream.Purge(s.ctx, jetstream.WithPurgeSubject(bus.ChunksSubject(info.NUID)))
		},
	} {
		t.Run(damage, func(t *testing.T) {
			s := newStage(t)
			useJoinFile(t)
			for _, name := range []string{"srv1", "srv2", "srv3"} {
				s.putAgent(name, bustest.AsIs)
			}
			file := built(t, "a.py", "--author=eve", "--note=leave form")
			if r := run(t, "", "patch", "publish", file, "--approval"); r.code != exitOK {
				t.Fatalf("%+v", r)
			}
			a := s.announced()
			if err := patch.PutReport(s.ctx, s.c.JS, patch.Report{Patch: a.ID, Node: "srv1", State: patch.StateApplied}); err != nil {
				t.Fatal(err)
			}
			s.putAgent("srv2", func(st *bus.AgentState) { st.PatchNext = a.ID }) // it has fetched the artifact
			lost := "the artifact of patch " + a.ID
			s.says(false, lost)
			objects, err := s.c.JS.ObjectStore(s.ctx, bus.ObjectPatches)
			if err != nil {
				t.Fatal(err)
			}
			if err := do(s, objects, a); err != nil {
				t.Fatal(err)
			}
			s.says(true, lost+" (leave form) is not in the store PATCHES as it was announced", "These servers cannot get it: srv3",
				"If eve still has the file of that patch: `omflow-booster patch publish FILE`",
				"`omflow-booster patch abort "+a.ID+"`, then publish its files again; srv1 has them.")
			var printed diagnosis.Report
			if r := run(t, "", "status", "--json"); json.Unmarshal([]byte(r.stdout), &printed) != nil || len(printed.Lost) != 1 ||
				printed.Lost[0].Lost != diagnosis.LostArtifact {
				t.Errorf("%+v", r)
			}
			if r := run(t, "", "patch", "publish", file); r.code != exitOK {
				t.Fatalf("%+v", r)
			}
			s.says(false, lost)
			if err := do(s, objects, a); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"srv2", "srv3"} {
				if err := patch.PutReport(s.ctx, s.c.JS, patch.Report{Patch: a.ID, Node: name, State: patch.StateSkipped}); err != nil {
					t.Fatal(err)
				}
			}
			s.says(false, lost) // nobody needs it
		})
	}
}

// A server that waits with a patch whose announcement somebody removed is named, and `patch abort` lets it go on.
func TestAnnouncementThatIsGoneIsNamed(t *testing.T) {
	s := newStage(t)
	useJoinFile(t)
	if r := run(t, "", "patch", "publish", built(t, "a.py"), "--approval"); r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	a := s.announced()
	for _, name := range []string{"srv1", "srv2"} {
		s.putAgent(name, func(st *bus.AgentState) { st.PatchNext = a.ID })
	}
	stream, err := s.c.JS.Stream(s.ctx, bus.StreamPatch)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(s.ctx, a.Seq); err != nil {
		t.Fatal(err)
	}
	s.says(true, "patch "+a.ID+" is not announced in PATCH any more: somebody removed it there. srv1, srv2 waits with it",
		"`omflow-booster patch abort "+a.ID+"`")
	if r := run(t, "", "patch", "show", a.ID); r.code != exitFailed || !strings.Contains(r.stderr, "no patch of that id is announced") {
		t.Errorf("%+v", r)
	}
	if r := run(t, "", "patch", "abort", a.ID); r.code != exitOK {
		t.Errorf("%+v", r)
	}
	if p, _, err := rollout.Read(s.ctx, s.c.JS, a.ID); err != nil || p.State != rollout.StateAborted {
		t.Errorf("%+v %v", p, err)
	}
	if r := run(t, "", "patch", "abort", "20260131-094500123-k3v7q2mx"); r.code != exitFailed {
		t.Errorf("a patch that never was: %+v", r)
	}
}

// What somebody has emptied or removed on the bus is no reason to fall over: each command says what is missing, or goes on.
func TestEmptiedBuckets(t *testing.T) {
	s := newStage(t)
	useJoinFile(t)
	s.putAgent("srv1", bustest.AsIs)
	if r := run(t, "", "patch", "publish", built(t, "a.py"), "--approval"); r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	a := s.announced()
	rollouts, err := s.c.JS.KeyValue(s.ctx, bus.BucketRollout)
	if err != nil {
		t.Fatal(err)
	}
	if err := rollouts.Delete(s.ctx, bus.PlanPrefix+bus.Token(a.ID)); err != nil {
		t.Fatal(err)
	}
	if r := run(t, "", "patch", "show", a.ID); r.code != exitOK || !strings.Contains(r.stdout, "no server has asked for it yet") {
		t.Errorf("%+v", r)
	}
	for _, bucket := range []string{bus.BucketRollout, bus.BucketControl, bus.BucketNodes} {
		stream, err := s.c.JS.Stream(s.ctx, bus.BucketStream(bucket))
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Purge(s.ctx); err != nil {
			t.Fatal(err)
		}
	}
	for command, want := range map[string]result{
		"status":             {code: exitWarnings, stdout: "no Booster writes its heartbeat"},
		"nodes":              {code: exitOK, stdout: "ROLE"},
		"nodes drift":        {code: exitOK},
		"patch ls":           {code: exitOK, stdout: a.ID},
		"patch show " + a.ID: {code: exitOK, stdout: "no server has asked for it yet"},
		"patch keys":         {code: exitOK},
		"cluster database":   {code: exitOK},
		"dead ls":            {code: exitOK},
	} {
		if r := run(t, "", strings.Fields(command)...); r.code != want.code || !strings.Contains(r.stdout, want.stdout) {
			t.Errorf("%s: %+v", command, r)
		}
	}
}
