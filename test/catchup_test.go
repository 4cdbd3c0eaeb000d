//go:build linux

package test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

const missedPatches = 10 // while a server is away

func TestServerThatMissedTenPatchesAppliesThemInOrder(t *testing.T) {
	t.Parallel()
	// given three servers under agents, at which people file tickets, and of which one loses power
	s := prepareSite(t, env{"BOOSTER_LEASE": "5s", "BOOSTER_ROLLOUT_SERVERS": "2"}) // the one that is away, and the one that is patched
	s.serversFail = true                                                            // while they are patched
	for i := range 3 {
		s.servers = append(s.servers, s.startUnderAgent(fmt.Sprintf("server-%d", i+1), oldVersion, nil))
	}
	s.fileTickets()
	s.afterSteps(20)
	away := s.servers[2]
	away.agent.killAll()
	// when ten patches are published, each for the version before, and the others apply them
	version, want := oldVersion, map[string]string{}
	var ids []string
	for i := range missedPatches {
		next := fmt.Sprintf("1.1.4.%d", i+1)
		files := versionFiles(next) // replaced by each
		files[fmt.Sprintf("omflow/only/%d.py", i)] = next
		maps.Copy(want, files)
		ids = append(ids, s.publish(files, "--from", version))
		version = next
	}
	s.appliedOn(ids[len(ids)-1], "server-1", "server-2")
	if v := homeOf(t, away)[omflowtest.VersionFile]; v != "version="+oldVersion+"\n" {
		t.Errorf("%s was switched off and has %q", away.name, v)
	}
	// then steps flow without it
	s.afterSteps(20)
	// then it applies all ten when it is back, in their order, and runs what the others run
	away.agent.restart()
	s.appliedOn(ids[len(ids)-1], "server-1", "server-2", "server-3")
	for _, srv := range s.servers {
		checkOrder(t, srv, ids)
		testkit.Await(t, timeout, srv.name+" to run "+version, srv.runs(version))
		if home := homeOf(t, srv); !maps.Equal(home, want) {
			t.Errorf("%s has %v, want %v", srv.name, home, want)
		}
	}
	// then nothing is lost and nothing happened twice
	s.afterSteps(20)
	s.finish()
}

// appliedOn waits until servers have applied a patch.
func (s *site) appliedOn(id string, servers ...string) {
	s.t.Helper()
	testkit.Await(s.t, rolloutTimeout, fmt.Sprintf("patch %s on %v", id, servers), func(context.Context) error {
		states, _, err := s.show(id)
		if err != nil {
			return err
		}
		for _, name := range servers {
			if states[name] != patch.StateApplied {
				return fmt.Errorf("it is %v", states)
			}
		}
		return nil
	})
}

// checkOrder looks into the ledger of an agent: it has applied these patches and no others, one after the other, each once.
func checkOrder(t testing.TB, srv *server, ids []string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(srv.agent.vars["AGENT_DATA_DIR"], "patches.json"))
	if err != nil {
		t.Fatal(err)
	}
	var ledger struct {
		Patches []patch.Report `json:"patches"`
	}
	if err := json.Unmarshal(data, &ledger); err != nil {
		t.Fatal(err)
	}
	var applied []string
	before := patch.Report{To: oldVersion}
	for _, r := range ledger.Patches {
		applied = append(applied, r.Patch)
		if r.State != patch.StateApplied || r.From != before.To || r.Seq <= before.Seq || r.Started.Before(before.Finished) || r.Files != 3 {
			t.Errorf("%s: %+v after %+v", srv.name, r, before)
		}
		before = r
	}
	if !slices.Equal(applied, ids) {
		t.Errorf("%s has applied %v, want %v", srv.name, applied, ids)
	}
}

// What no agent would take is refused where it is published, and says why; nothing of it reaches the bus.
func TestBadPatchIsNotPublished(t *testing.T) {
	t.Parallel()
	b := startBooster(t, nil)
	at := dir(t)
	// given two hosts that publish: each has a key, and only the first knows both
	hosts := map[string]env{}
	for _, who := range []string{"ann", "bob"} {
		hosts[who] = merge(b.env(), env{"BOOSTER_JOIN_FILE": filepath.Join(at, who+".json")})
		succeed(t, hosts[who], "join", "new", "--name", who, "--out", hosts[who]["BOOSTER_JOIN_FILE"])
	}
	succeed(t, hosts["bob"], "join", "public", "--out", filepath.Join(at, "bob-public.json"))
	source := dir(t)
	writeFiles(t, source, map[string]string{"omflow/app.py": strings.Repeat("print('hello')\n", 1000)})
	sound := filepath.Join(at, "sound.tar.zst")
	succeed(t, hosts["bob"], "patch", "build", source, sound)
	content, err := os.ReadFile(sound)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(who, path, says string) {
		t.Helper()
		a := ask(t, hosts[who], "", "patch", "publish", path)
		if a.code != 1 || a.stdout != "" || !strings.Contains(a.stderr, says) || strings.Count(a.stderr, "\n") != 1 {
			t.Errorf("%s publishes %s: %+v, want code 1 and %q", who, filepath.Base(path), a, says)
		}
	}
	// then a key that the host does not know is refused
	refused("ann", sound, "is not in the join file of this host")
	succeed(t, hosts["ann"], "join", "add-key", filepath.Join(at, "bob-public.json"))
	// then an artifact that is not whole is refused, wherever it was cut
	for _, length := range []int{0, 10, len(content) / 2, len(content) - 1} {
		cut := filepath.Join(at, fmt.Sprintf("first-%d-bytes.tar.zst", length))
		if err := os.WriteFile(cut, content[:length], 0o600); err != nil {
			t.Fatal(err)
		}
		refused("ann", cut, "patch refused")
	}
	// then a key that was revoked is refused, for the host that has it, too
	bob := query[struct {
		Own string `json:"signs_with"`
	}](t, b, "join", "show", filepath.Join(at, "bob.json")).Own
	succeed(t, hosts["ann"], "patch", "revoke", bob, "--reason", "laptop stolen")
	refused("ann", sound, "was revoked on ")
	refused("bob", sound, "laptop stolen")
	refused("bob", source, "laptop stolen")
	// then nothing was announced and nothing was stored
	c := b.dial()
	for _, name := range []string{bus.StreamPatch, "OBJ_" + bus.ObjectPatches} {
		stream, err := c.JS.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if n := stream.CachedInfo().State.Msgs; n != 0 {
			t.Errorf("%s has %d messages", name, n)
		}
	}
}

// succeed runs a command that must.
func succeed(t testing.TB, vars env, args ...string) (printed string) {
	t.Helper()
	a := ask(t, vars, "", args...)
	if a.code != 0 {
		t.Fatalf("omflow-booster %s: code %d\n%s%s", strings.Join(args, " "), a.code, a.stdout, a.stderr)
	}
	return a.stdout
}
