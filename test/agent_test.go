//go:build linux

package test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

const (
	oldVersion = "1.1.4.0"
	newVersion = "1.1.4.1"
)

func TestServerAndWorkerThatDieAreStartedAgain(t *testing.T) {
	t.Parallel()
	// given two servers under agents, at which people file tickets
	s := prepareSite(t, env{"BOOSTER_LEASE": "3s"})
	s.serversFail = true
	for _, name := range []string{"server-1", "server-2"} {
		s.servers = append(s.servers, s.startUnderAgent(name, oldVersion, nil))
	}
	s.fileTickets()
	for _, srv := range s.servers {
		// when the web process and the worker of one are killed
		s.afterSteps(s.some(10, 40))
		before := srv.agent.running(bus.AgentState{})
		srv.agent.signal(before.ServerPID, syscall.SIGKILL)
		srv.agent.signal(before.WorkerPID, syscall.SIGKILL)
		// then its agent starts both again
		srv.agent.running(before)
		testkit.Await(t, startTimeout, srv.name+" to answer again", srv.healthy)
	}
	s.afterSteps(20)
	// then nothing is lost and nothing happened twice
	s.finish()
}

// running waits until server and worker run, each as another process than before.
func (a *agent) running(before bus.AgentState) (now bus.AgentState) {
	a.t.Helper()
	testkit.Await(a.t, startTimeout, "server and worker of "+a.name, func(ctx context.Context) (err error) {
		now, err = a.state(ctx)
		if err == nil &&
			(now.Server != "running" || now.Worker != "running" || now.ServerPID == before.ServerPID || now.WorkerPID == before.WorkerPID) {
			err = fmt.Errorf("%+v", now)
		}
		return err
	})
	return now
}

func TestPatchReachesEveryServerAlsoTheOneThatWasAway(t *testing.T) {
	t.Parallel()
	// given three servers under agents, at which people file tickets, and of which one is switched off
	s := prepareSite(t, env{"BOOSTER_LEASE": "3s", "BOOSTER_ROLLOUT_SERVERS": "2"}) // the one that is off, and the one that is patched
	s.serversFail = true                                                            // while they are patched
	for _, name := range []string{"server-1", "server-2", "server-3"} {
		s.servers = append(s.servers, s.startUnderAgent(name, oldVersion, nil))
	}
	s.fileTickets()
	s.afterSteps(20)
	away := s.servers[2]
	away.agent.killAll()
	// when a patch is published
	files := map[string]string{omflowtest.VersionFile: "version=" + newVersion + "\n", "omflow/templates/about.html": "new\n"}
	source := dir(t)
	writeFiles(t, source, files)
	if code, out := command(t, s.booster, "patch", "publish", source, "--from", oldVersion, "--note", "of a scenario"); code != 0 {
		t.Fatalf("patch publish: code %d\n%s", code, out)
	}
	// then the servers that are there run it, and the other one gets it when it is back
	for _, srv := range s.servers {
		if srv == away {
			if v := homeOf(t, away)[omflowtest.VersionFile]; v != "version="+oldVersion+"\n" {
				t.Errorf("%s was switched off and has %q", away.name, v)
			}
			away.agent.restart()
		}
		testkit.Await(t, timeout, srv.name+" to run "+newVersion, srv.runs(newVersion))
		testkit.Await(t, timeout, srv.name+" to have its files, and no others", func(context.Context) error {
			if home := homeOf(t, srv); !maps.Equal(home, files) {
				return fmt.Errorf("it has %v, want %v", home, files)
			}
			return nil
		})
	}
	testkit.Await(t, timeout, "patch ls to say so", func(context.Context) error {
		if got, want := s.patches(), []string{"server-1 applied", "server-2 applied", "server-3 applied"}; !slices.Equal(got, want) {
			return fmt.Errorf("it says %v, want %v", got, want)
		}
		return nil
	})
	// then nothing is lost and nothing happened twice, although every server was stopped under load
	s.afterSteps(20)
	s.finish()
}

func TestCorruptedArtifactIsRefusedAndTheHomeStays(t *testing.T) {
	t.Parallel()
	// given a server under an agent
	s := prepareSite(t, nil)
	srv := s.startUnderAgent("server-1", oldVersion, nil)
	before, home := srv.agent.running(bus.AgentState{}), homeOf(t, srv)
	good := func(id string) []byte {
		t.Helper()
		source := dir(t)
		writeFiles(t, source, map[string]string{"a": id, omflowtest.VersionFile: "version=" + newVersion + "\n"})
		var artifact bytes.Buffer
		if _, err := patch.Build(&artifact, os.DirFS(source), patch.Options{Signer: signer}); err != nil {
			t.Fatal(err)
		}
		return artifact.Bytes()
	}
	damaged := func(artifact []byte) []byte {
		damaged := bytes.Clone(artifact)
		damaged[len(damaged)/2] ^= 0x10
		return damaged
	}
	first, second := good("first"), good("second")
	for i, wrong := range []struct {
		announced, stored []byte
		says              string
	}{
		// damaged on the way to the store
		{first, damaged(first), "server-1 retrying its artifact is not in the store any more; publish the same file again, or pass the " +
			"patch over"},
		// damaged before it was announced
		{damaged(second), damaged(second), "server-1 failed patch refused"},
	} {
		// when an artifact is announced that was damaged
		s.announce(wrong.announced, wrong.stored)
		// then it fails, or waits where a good copy would do, and says why
		says := func(what string) string {
			var got []string
			testkit.Await(t, timeout, "the patch to say "+what, func(context.Context) error {
				if got = s.patches(); len(got) != i+1 || !strings.HasPrefix(got[i], what) {
					return fmt.Errorf("patch ls says %v", got)
				}
				return nil
			})
			return got[i]
		}
		said := says(wrong.says)
		if _, id, waits := strings.Cut(said, "omflow-booster patch abort "); waits {
			for name, ends := range map[string]int{"status": warnings, "nodes": 0, "doctor": 0} {
				want := "the artifact of patch " + id + " is not in the store PATCHES as it was announced"
				if code, out := command(t, s.booster, name); code != ends || !strings.Contains(out, want) {
					t.Errorf("%s: code %d, want %q in\n%s", name, code, want, out)
				}
			}
			if code, out := command(t, s.booster, "patch", "abort", id); code != 0 {
				t.Fatalf("patch abort: code %d\n%s", code, out)
			}
			says("server-1 skipped")
		}
	}
	// then the home is as it was, and its server was not even restarted
	if got := homeOf(t, srv); !maps.Equal(got, home) {
		t.Errorf("the home holds %v, want %v", got, home)
	}
	after, err := srv.agent.state(t.Context())
	if err != nil || after.ServerPID != before.ServerPID || after.WorkerPID != before.WorkerPID {
		t.Errorf("server and worker were restarted: %+v, before %+v (%v)", after, before, err)
	}
	// then the next patch, which is sound, gets its turn
	sound := good("third")
	s.announce(sound, sound)
	testkit.Await(t, timeout, "the sound patch", srv.runs(newVersion))
	srv.stop()
}

// announce stores an artifact and announces it, or another one, as somebody who is not the product would.
func (s *site) announce(announced, stored []byte) {
	s.t.Helper()
	c := s.booster.dial()
	ctx := s.t.Context()
	sum := sha256.Sum256(announced)
	a := patch.Announcement{ID: patch.NewID(time.Now())}
	a.Size, a.SHA256 = int64(len(announced)), hex.EncodeToString(sum[:])
	anybody := func(string, []byte, []byte) error { return nil }
	if m, err := patch.Verify(bytes.NewReader(announced), patch.DefaultLimit, anybody); err == nil {
		a.ID, a.To, a.Created, a.Files, a.Bytes = m.ID, m.To, m.Created, len(m.Files), m.Bytes()
	}
	a.Object = a.ID
	objects, err := c.JS.ObjectStore(ctx, bus.ObjectPatches)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := objects.PutBytes(ctx, a.Object, stored); err != nil {
		s.t.Fatal(err)
	}
	body, err := json.Marshal(a)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := c.JS.Publish(ctx, bus.AnnounceSubject(a.ID), body); err != nil {
		s.t.Fatal(err)
	}
}

// patches is what `patch ls` says of every patch on every server, sorted by the server within a patch.
func (s *site) patches() (list []string) {
	s.t.Helper()
	listed := query[struct {
		Patches []struct {
			Nodes []struct{ Node, State, Error string } `json:"nodes"`
		} `json:"patches"`
	}](s.t, s.booster, "patch", "ls").Patches
	for _, p := range listed {
		var nodes []string
		for _, n := range p.Nodes {
			nodes = append(nodes, strings.TrimSpace(n.Node+" "+n.State+" "+n.Error))
		}
		slices.Sort(nodes)
		list = append(list, nodes...)
	}
	return list
}

// runs tells whether the web process of a server was started with a version: its home may be newer.
func (srv *server) runs(version string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		now, err := srv.webServer().Version(ctx, client)
		if err == nil && now != version {
			err = fmt.Errorf("it runs %s", now)
		}
		return err
	}
}

// homeOf reads every file of the home of a server, by path.
func homeOf(t testing.TB, srv *server) map[string]string {
	t.Helper()
	files := map[string]string{}
	home := os.DirFS(srv.home)
	err := fs.WalkDir(home, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), ".booster-") { // a patch that has just succeeded is being cleaned up after
			return err
		}
		content, err := fs.ReadFile(home, name)
		files[name] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
