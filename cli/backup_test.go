package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

func TestBackupAndRestore(t *testing.T) {
	s := newStage(t)
	for i := range 30 {
		s.putWork("FormFlow", "f1", fmt.Sprint("q", i))
	}
	s.putDead("FormFlow", "f1", "q99", body("FormFlow"))
	s.take()
	want := s.holds(bus.StreamWork)
	file := filepath.Join(t.TempDir(), "b.tar.zst")

	r := run(t, "", "backup", file)
	if r.code != exitOK || r.stderr != "" || !strings.Contains(r.stdout, "WORK         29 ") ||
		!strings.Contains(r.stdout, file+" written: ") {
		t.Fatalf("%+v", r)
	}
	if r = run(t, "", "backup", file); r.code != exitUsage || !strings.Contains(r.stderr, "--force to overwrite it") {
		t.Fatalf("%+v", r)
	}
	r = run(t, "", "backup", file, "--force", "--json")
	var backup backupReport
	if err := json.Unmarshal([]byte(r.stdout), &backup); err != nil || r.code != exitOK || backup.Size == 0 || len(backup.Streams) != 6 {
		t.Fatalf("%v %+v", err, r)
	}
	if entries, _ := os.ReadDir(filepath.Dir(file)); len(entries) != 1 {
		t.Fatalf("left behind: %v", entries)
	}

	s = newStage(t) // a new Booster
	r = run(t, "", "restore", file)
	if r.code != exitOK || r.stderr != "" || !strings.Contains(r.stdout, "restored in ") {
		t.Fatalf("%+v", r)
	}
	if got := s.holds(bus.StreamWork); !slices.Equal(got, want) {
		t.Fatalf("%v", got)
	}
	if r = run(t, "", "restore", file); r.code != exitOK || strings.Count(r.stdout, "was there already") != 6 {
		t.Fatalf("%+v", r)
	}

	s.putWork("FormFlow", "f1", "q100")
	s.putNode(bus.Node{Role: bus.ServiceAgent, Name: "srv1", At: time.Now()})
	r = run(t, "", "restore", file)
	if r.code != exitFailed || !strings.Contains(r.stderr, "WORK (30 messages here, 29 in the backup); --force would delete") ||
		!strings.Contains(r.stderr, "still running: agent srv1") {
		t.Fatalf("%+v", r)
	}
	r = run(t, "y\n", "restore", file, "--force") // a pipe is no person
	if r.code != exitUsage || !strings.Contains(r.stderr, "add --yes") {
		t.Fatalf("%+v", r)
	}
	if got := s.holds(bus.StreamWork); len(got) != 30 {
		t.Fatalf("%v", got)
	}
	r = run(t, "", "restore", file, "--force", "--yes", "--json")
	var restore restoreReport
	if err := json.Unmarshal([]byte(r.stdout), &restore); err != nil || r.code != exitOK || !restore.Done || restore.ID != backup.ID ||
		len(restore.Streams) != 6 {
		t.Fatalf("%v %+v", err, r)
	}
	if got := s.holds(bus.StreamWork); !slices.Equal(got, want) {
		t.Fatalf("%v", got)
	}
}

func TestBackupThatCannotBe(t *testing.T) {
	s := newStage(t)
	s.putWork("FormFlow", "f1", "q1")
	dir := t.TempDir()
	file := filepath.Join(dir, "b")
	if r := run(t, "", "backup", file); r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(dir, "cut")
	if err := os.WriteFile(cut, data[:len(data)-100], 0o600); err != nil {
		t.Fatal(err)
	}
	for says, line := range map[string][]string{
		"is not a directory":      {"backup", "/no/such/dir/b"},
		"is not a regular file":   {"backup", dir, "--force"},
		"wants one FILE":          {"backup"},
		"does not exist":          {"restore", filepath.Join(dir, "none")},
		"`omflow-booster restore": {"restore", "a", "b"},
	} {
		if r := run(t, "", line...); r.code != exitUsage || !strings.Contains(r.stderr, says) || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%s: %+v", says, r)
		}
	}
	if r := run(t, "", "restore", cut, "--force", "--yes"); r.code != exitFailed || !strings.Contains(r.stderr, "nothing was changed") {
		t.Errorf("%+v", r)
	}
	if r := run(t, "", "restore", os.Args[0]); r.code != exitFailed || !strings.Contains(r.stderr, "not a usable snapshot") {
		t.Errorf("%+v", r)
	}
	if got := s.holds(bus.StreamWork); len(got) != 1 {
		t.Errorf("%v", got)
	}
	useBooster(t, "nats://127.0.0.1:1")
	for _, line := range [][]string{{"backup", filepath.Join(dir, "new")}, {"restore", file}} {
		if r := run(t, "", line...); r.code != exitFailed || !strings.Contains(r.stderr, "no Booster answers") {
			t.Errorf("%v: %+v", line, r)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("left behind: %v", entries)
	}
}
