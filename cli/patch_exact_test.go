package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/agent"
	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// startAgent runs an agent over a home, without server and worker.
func (s *stage) startAgent(name, home string) {
	s.t.Helper()
	for variable, value := range map[string]string{
		"OMFLOW_HOME": home, "AGENT_NAME": name, "AGENT_DATA_DIR": s.t.TempDir(), "AGENT_WORKER": "off", "AGENT_WITNESS": "off",
		"AGENT_WATCH_QUIET": "300ms",
		"AGENT_IGNORE":      "*.cache", "AGENT_PATCH_INTERVAL": "200ms",
	} {
		s.t.Setenv(variable, value)
	}
	var cfg agent.Config
	if err := config.Load(&cfg); err != nil {
		s.t.Fatal(err)
	}
	client, err := bus.Dial(bus.ClientConfig{URL: os.Getenv("BOOSTER_URL")}, name)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(client.Close)
	a, err := agent.New(cfg, agent.Deps{Client: client}, zerolog.Nop())
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
	<-a.Ready()
}

// drift waits until every server has been seen, and returns what `nodes drift` says.
func (s *stage) drift(ready func(r result) bool) result {
	s.t.Helper()
	var r result
	for end := time.Now().Add(time.Minute); time.Now().Before(end); bus.Sleep(s.ctx, 50*time.Millisecond) {
		if r = run(s.t, "", "nodes", "drift"); ready(r) {
			return r
		}
	}
	s.t.Fatalf("%+v", r)
	return r
}

func TestExactlyADirectoryIsPublished(t *testing.T) {
	s := newStage(t)
	useJoinFile(t)
	release := map[string]string{
		patch.VersionFile: "version=1.1.5.0\n", "manage.py": "m", "omflow/app.py": "5",
		"omflow/settings.py": "mine", "made.cache": "x",
	}
	for i := range 30 {
		release[fmt.Sprintf("omflow/f%d.py", i)] = "x"
	}
	homes := []string{files(t, release), files(t, release)}
	for i, home := range homes {
		s.startAgent(fmt.Sprintf("srv%d", i+1), home)
	}
	s.drift(func(r result) bool { return r.code == exitOK && strings.Count(r.stdout, "1.1.5.0") == 2 })

	// The same directory: nothing to do. Files that belong to one server, and modes, make no difference.
	release["omflow/settings.py"], release["made.cache"] = "of the release", "of the release"
	same := files(t, release)
	if err := os.Chmod(filepath.Join(same, "manage.py"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t, "", "patch", "publish", "--exact", same)
	if r.code != exitOK || !strings.Contains(r.stdout, "nothing to do: srv1, srv2 should have exactly this already") {
		t.Fatalf("%+v", r)
	}

	// A release that is older, has 20 files less, one more and one changed.
	for i := range 20 {
		delete(release, fmt.Sprintf("omflow/f%d.py", i))
	}
	release[patch.VersionFile], release["omflow/app.py"], release["omflow/new.py"] = "version=1.1.4.0\n", "4", "n"
	dir := files(t, release)
	r = run(t, "no\n", "patch", "publish", "--exact", dir)
	for _, part := range []string{
		"1 added, 2 changed, 20 deleted on srv1, srv2", "  added omflow/new.py", "  changed omflow/app.py", "  deleted omflow/f0.py",
		"OLDER: this is version 1.1.4.0, and the servers have 1.1.5.0", "Bring that to 2 servers? [y/N]",
	} {
		if r.code != exitOK || !strings.Contains(r.stdout+r.stderr, part) {
			t.Errorf("%q is missing in %+v", part, r)
		}
	}
	var shown struct {
		Difference homeDiff         `json:"difference"`
		Published  *json.RawMessage `json:"published"`
	}
	if r = run(t, "", "patch", "publish", "--exact", dir, "--json"); json.Unmarshal([]byte(r.stdout), &shown) != nil ||
		len(shown.Difference.Deleted) != 20 || shown.Published != nil {
		t.Fatalf("%+v", r)
	}
	if r = run(t, "", "patch", "ls"); r.stdout != "no patch was published yet\n" {
		t.Fatalf("%+v", r)
	}
	var published diagnosis.Patch
	r = run(t, "", "patch", "publish", "--exact", dir, "--yes", "--json")
	if err := json.Unmarshal([]byte(r.stdout), &published); err != nil || r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	if published.Files != 3 || published.Deletions != 20 || published.From != "1.1.5.0" || published.To != "1.1.4.0" {
		t.Fatalf("only what has changed travels: %+v", published)
	}

	for _, wrong := range []struct{ says, dir string }{
		{"has no " + patch.VersionFile, files(t, map[string]string{"omflow/app.py": "4"})},
		{"takes the directory of a whole OMFLOW Server", filepath.Join(dir, "manage.py")},
	} {
		if r := run(t, "", "patch", "publish", "--exact", wrong.dir, "--yes"); r.code != exitUsage || !strings.Contains(r.stderr, wrong.says) {
			t.Errorf("%+v", r)
		}
	}
}

// Half of the home goes away on one server: `status` names the hold and the order, which passes it.
func TestHeldDeletionPassesByOrder(t *testing.T) {
	s := newStage(t)
	useJoinFile(t)
	home := map[string]string{patch.VersionFile: "version=1.1.5.0\n"}
	for i := range 60 {
		home[fmt.Sprintf("omflow/f%d.py", i)] = "x"
	}
	dir := files(t, home)
	s.startAgent("srv1", dir)
	s.startAgent("srv2", files(t, home))
	s.drift(func(r result) bool { return r.code == exitOK && strings.Count(r.stdout, "1.1.5.0") == 2 })
	if r := run(t, "", "nodes", "drift", "srv1", "--publish"); r.code != exitFailed || !strings.Contains(r.stderr, "srv1 holds nothing back") {
		t.Fatalf("%+v", r)
	}
	for i := range 30 {
		if err := os.Remove(filepath.Join(dir, fmt.Sprintf("omflow/f%d.py", i))); err != nil {
			t.Fatal(err)
		}
	}
	s.drift(func(r result) bool {
		return strings.Contains(r.stdout, "srv1  held back: 30 of 61 files are missing, which looks like a lost disk; --publish brings it "+
			"to all servers")
	})
	var r result
	for end := time.Now().Add(time.Minute); !strings.Contains(r.stdout, "nodes drift srv1 --publish"); bus.Sleep(s.ctx, 100*time.Millisecond) {
		if r = run(t, "", "status"); time.Now().After(end) {
			break
		}
	}
	if !strings.Contains(r.stdout, "agent srv1 holds back 30 files that were changed in its home: 30 of 61 files are missing") {
		t.Fatalf("%+v", r)
	}
	if r := run(t, "n\n", "nodes", "drift", "srv1", "--publish"); r.code != exitOK ||
		!strings.Contains(r.stderr, "bring that to all servers? [y/N]") {
		t.Fatalf("%+v", r)
	}
	if r := run(t, "n\n", "nodes", "drift", "srv1", "--publish", "--json"); r.code != exitOK || r.stdout != "" {
		t.Fatalf("a program reads what is for people: %+v", r)
	}
	if r := run(t, "y\n", "nodes", "drift", "srv1", "--publish"); r.code != exitOK || !strings.Contains(r.stdout, "srv1 publishes them") {
		t.Fatalf("%+v", r)
	}
	for end := time.Now().Add(time.Minute); !strings.Contains(r.stdout, "changed on srv1"); bus.Sleep(s.ctx, 100*time.Millisecond) {
		if r = run(t, "", "patch", "ls"); time.Now().After(end) {
			break
		}
	}
	if !strings.Contains(r.stdout, "changed on srv1") {
		t.Fatalf("%+v", r)
	}
}
