package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// useJoinFile makes a join file and points the environment to it. It returns its name and the id of its key.
func useJoinFile(t *testing.T) (path, keyID string) {
	t.Helper()
	path, keyID = newJoinFile(t, "ann")
	t.Setenv("BOOSTER_JOIN_FILE", path)
	return path, keyID
}

func newJoinFile(t *testing.T, name string) (path, keyID string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "join.json")
	r := run(t, "", "join", "new", "--name", name, "--out", path, "--json")
	if r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	return path, shownKeys(t, r)[0]
}

func shownKeys(t *testing.T, r result) (ids []string) {
	t.Helper()
	var shown shownJoinFile
	if err := json.Unmarshal([]byte(r.stdout), &shown); err != nil {
		t.Fatalf("%v: %+v", err, r)
	}
	for _, k := range shown.Keys {
		ids = append(ids, k.ID)
	}
	return ids
}

func TestJoinFileIsMadeShownCopiedAndExtended(t *testing.T) {
	useBooster(t, "nats://127.0.0.1:1") // nobody needs one
	path, ann := useJoinFile(t)
	bobs, bob := newJoinFile(t, "bob")
	public := filepath.Join(t.TempDir(), "public.json")
	if r := run(t, "", "join", "public", "--out", public); r.code != exitOK || !strings.Contains(r.stdout, "elsewhere") {
		t.Fatalf("%+v", r)
	}
	data, err := os.ReadFile(public)
	if err != nil || strings.Contains(string(data), "private") {
		t.Errorf("%v: %s", err, data)
	}
	if r := run(t, "", "join", "show"); r.code != exitOK || !strings.Contains(r.stdout, ann) || !strings.Contains(r.stdout, "in this file") {
		t.Errorf("%+v", r)
	}
	r := run(t, "", "join", "show", public, "--json")
	if strings.Contains(r.stdout, bob) || !strings.Contains(r.stdout, `"signs_with": null`) {
		t.Errorf("%+v", r)
	}
	for range 2 { // the second time there is nothing to add
		r = run(t, "", "join", "add-key", bobs, "--json")
		if got := shownKeys(t, r); len(got) != 2 || got[0] != ann || got[1] != bob {
			t.Errorf("%+v", r)
		}
	}
	own, err := os.ReadFile(bobs)
	if err != nil {
		t.Fatal(err)
	}
	var theirs struct {
		Private struct {
			Key string `json:"patch_key"`
		} `json:"private"`
	}
	if err := json.Unmarshal(own, &theirs); err != nil || theirs.Private.Key == "" {
		t.Fatalf("%v: %s", err, own)
	}
	if data, err := os.ReadFile(path); err != nil || strings.Contains(string(data), theirs.Private.Key) {
		t.Errorf("bob's private key has been copied: %v", err)
	}
}

func TestWrongJoinFilesAreRefused(t *testing.T) {
	useBooster(t, "nats://127.0.0.1:1")
	dir := files(t, map[string]string{"omflow/a.py": "a", "text": "no JSON"})
	missing := filepath.Join(dir, "none")
	for _, line := range []string{
		"join show", "join public", "join add-key " + dir + "/text", "patch publish " + dir,
		"patch build " + dir + " " + missing, "patch verify " + dir + "/text", "patch keys", "patch revoke x",
	} {
		r := run(t, "", strings.Fields(line)...)
		if r.code != exitUsage || !strings.Contains(r.stderr, "BOOSTER_JOIN_FILE: not set; name the join file of this host") {
			t.Errorf("%s: %+v", line, r)
		}
	}
	path, _ := useJoinFile(t)
	for says, line := range map[string]string{
		"exists and was left alone":  "join new --out " + path,
		"no such file or directory":  "join new --out " + missing + "/join.json",
		"longer than 256 bytes":      "join new --out " + missing + " --name " + strings.Repeat("x", 300),
		"not a JSON object":          "join add-key " + dir + "/text",
		"wants one FILE":             "join add-key",
		"unexpected":                 "join new x",
		`has no key "0123456789abcd`: "patch revoke 0123456789abcdef",
		missing:                      "join show " + missing,
		"for a directory":            "patch publish " + dir + "/text --note x",
		"/text exists; give another": "patch build " + dir + " " + dir + "/text",
	} {
		r := run(t, "", strings.Fields(line)...)
		if r.code != exitUsage || !strings.Contains(r.stderr, says) || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%s: %+v", line, r)
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := run(t, "", "join", "show"); r.code != exitUsage ||
		!strings.Contains(r.stderr, "others may read its private key (mode 0644); chmod 600 "+path) {
		t.Errorf("%+v", r)
	}
}

// From a directory to the bus by way of a file: on a host that signs, and on one that only verifies.
func TestPatchIsBuiltInspectedVerifiedAndPublished(t *testing.T) { //nolint:funlen // one story, step after step
	s := newStage(t)
	_, ann := useJoinFile(t)
	dir, file := files(t, map[string]string{"omflow/a.py": "new"}), filepath.Join(t.TempDir(), "fix.tar.zst")
	r := run(t, "", "patch", "build", dir, file, "--note", "leave form", "--delete", "omflow/b.py", "--pip", "req.txt", "--migrate", "--json")
	var built patch.Manifest
	if err := json.Unmarshal([]byte(r.stdout), &built); err != nil || r.code != exitOK || len(built.Files) != 1 {
		t.Fatalf("%v: %+v", err, r)
	}
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("%v %v", left, err)
	}
	r = run(t, "", "patch", "inspect", file)
	for _, part := range []string{
		built.ID, "leave form", ann + " ann", "good", "pip req.txt, migrate, restart server", "omflow/a.py  3 B",
		"omflow/b.py  deleted",
	} {
		if r.code != exitOK || !strings.Contains(r.stdout, part) {
			t.Errorf("%q is missing in %+v", part, r)
		}
	}
	if r = run(t, "", "patch", "verify", file); r.code != exitOK || !strings.Contains(r.stdout, "good, "+built.ID+" signed by "+ann+" ann") {
		t.Errorf("%+v", r)
	}

	strangers, bob := newJoinFile(t, "bob")
	theirs := filepath.Join(t.TempDir(), "bob.tar.zst")
	t.Setenv("BOOSTER_JOIN_FILE", strangers)
	if r = run(t, "", "patch", "build", dir, theirs); r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	reason := "key " + ann + ", which signed it, is not in the join file of this host"
	for _, line := range []string{"verify", "publish"} {
		if r = run(t, "", "patch", line, file); r.code != exitFailed || !strings.Contains(r.stderr, reason) || r.stdout != "" {
			t.Errorf("%s: %+v", line, r)
		}
	}
	r = run(t, "", "patch", "verify", file, "--json")
	wantJSON(t, r.stdout, `{"file": "`+file+`", "id": "`+built.ID+`", "key": "`+ann+`", "good": false, "reason": "`+file+": "+reason+`"}`)
	if r.code != exitFailed {
		t.Errorf("%+v", r)
	}
	r = run(t, "", "patch", "inspect", file, "--json")
	if r.code != exitOK || !strings.Contains(r.stdout, `"state": "refused"`) || !strings.Contains(r.stdout, reason) {
		t.Errorf("a patch of a stranger can be looked at: %+v", r)
	}
	t.Setenv("BOOSTER_JOIN_FILE", "")
	if r = run(t, "", "patch", "inspect", file); r.code != exitOK || !strings.Contains(r.stdout, "unchecked: BOOSTER_JOIN_FILE is not set") {
		t.Errorf("%+v", r)
	}

	public := filepath.Join(t.TempDir(), "public.json")
	t.Setenv("BOOSTER_JOIN_FILE", strangers)
	run(t, "", "join", "public", "--out", public)
	t.Setenv("BOOSTER_JOIN_FILE", public)
	if r = run(t, "", "patch", "publish", dir); r.code != exitUsage ||
		!strings.Contains(r.stderr, "BOOSTER_JOIN_FILE: "+public+": it has no private key") {
		t.Errorf("%+v", r)
	}
	if r = run(t, "", "patch", "publish", theirs); r.code != exitOK {
		t.Errorf("whoever trusts the signer may publish: %+v", r)
	}

	// Revoked: for good, and with the first reason.
	revoke := []string{"patch", "revoke", bob, "--reason", "laptop stolen"}
	if r = run(t, "", revoke...); r.code != exitOK || !strings.Contains(r.stdout, "key "+bob+" is revoked") ||
		!strings.Contains(r.stdout, "0 keys left") {
		t.Errorf("%+v", r)
	}
	r = run(t, "", append(revoke[:3:3], "--json")...)
	var known patch.Revocation
	if err := json.Unmarshal([]byte(r.stdout), &known); err != nil || known.Reason != "laptop stolen" || known.By == "" ||
		time.Since(known.At) > time.Minute {
		t.Errorf("%v: %+v", err, r)
	}
	if r = run(t, "", "patch", "publish", theirs); r.code != exitFailed ||
		!strings.Contains(r.stderr, "was revoked on "+known.At.Format(time.DateOnly)+": laptop stolen") {
		t.Errorf("%+v", r)
	}
	if announced, err := patch.List(s.ctx, s.c.JS); err != nil || len(announced) != 1 {
		t.Errorf("%v %v", announced, err)
	}
	t.Setenv("BOOSTER_JOIN_FILE", strangers)
	if r = run(t, "", "patch", "keys"); r.code != exitOK ||
		!strings.Contains(r.stdout, "revoked "+known.At.Format(time.DateOnly)+" by "+known.By+": laptop stolen") {
		t.Errorf("%+v", r)
	}
	path, carol := newJoinFile(t, "carol")
	t.Setenv("BOOSTER_JOIN_FILE", path)
	r = run(t, "", "patch", "keys", "--json")
	var listed struct{ Keys []listedKey }
	if err := json.Unmarshal([]byte(r.stdout), &listed); err != nil || len(listed.Keys) != 2 ||
		listed.Keys[0].ID != carol || listed.Keys[0].State != keyTrusted || !listed.Keys[0].Signs ||
		listed.Keys[1].ID != bob || listed.Keys[1].State != keyRevoked || listed.Keys[1].Created != nil {
		t.Errorf("%v: %+v", err, r)
	}
}

func TestDamagedPatchIsNotVerified(t *testing.T) {
	useBooster(t, "nats://127.0.0.1:1")
	useJoinFile(t)
	dir, file := files(t, map[string]string{"omflow/a.py": "new"}), filepath.Join(t.TempDir(), "fix.tar.zst")
	if r := run(t, "", "patch", "build", dir, file); r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, whole[:len(whole)-9], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"verify", "inspect"} {
		if r := run(t, "", "patch", command, file); r.code != exitFailed || !strings.Contains(r.stderr, file+": patch refused: the archive") {
			t.Errorf("%s: %+v", command, r)
		}
		if r := run(t, "", "patch", command, file+"-none"); r.code != exitUsage || !strings.Contains(r.stderr, "no such file") {
			t.Errorf("%s: %+v", command, r)
		}
	}
	if r := run(t, "", "patch", "build", dir, file, "--force"); r.code != exitOK {
		t.Errorf("%+v", r)
	}
	if r := run(t, "", "patch", "verify", file); r.code != exitOK {
		t.Errorf("%+v", r)
	}
}

// An agent without a key is seen where people look.
func TestAgentThatTrustsNobodyIsShown(t *testing.T) {
	s := newStage(t)
	useJoinFile(t)
	s.putNode(bus.Node{
		Role: bus.ServiceAgent, Name: "srv1", At: time.Now(),
		Agent: &bus.AgentState{AgentPatches: bus.AgentPatches{PatchState: "waiting: no key to trust: set BOOSTER_JOIN_FILE"}},
	})
	if r := run(t, "", "patch", "publish", files(t, map[string]string{"x": "x"})); r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	if r := run(t, "", "patch", "ls"); !strings.Contains(r.stdout, " waiting on srv1: no key to trust: set BOOSTER_JOIN_FILE\n") {
		t.Errorf("%+v", r)
	}
	if r := run(t, "", "nodes"); !strings.Contains(r.stdout, "srv1 takes no patch yet, waiting: no key to trust: set BOOSTER_JOIN_FILE\n") {
		t.Errorf("%+v", r)
	}
}
