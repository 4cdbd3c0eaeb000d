package patch

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A crash while the next life cleans up is no worse than the first one.
func TestCrashWhileRecovering(t *testing.T) {
	t.Parallel()
	before, after := versions(t)
	for _, first := range []operation{
		{"back up copy write", 2},
		{"switch rename", 3},
		{"switch delete", 2},
		{"restore rename", 2},
		{"restore remove", 1},
		{"forget backup", 2},
	} {
		w := wayOf("rolled back to copies")
		if first.op == "forget backup" {
			w = wayOf("kept with copies")
		}
		for n := 1; ; n++ {
			home, data, artifact := scene(t)
			require.ErrorIs(t, life(home, rootOf(t, data), artifact, w, dead(first.at)), errDead)
			left := n
			err := life(home, rootOf(t, data), nil, w, dead(func(then func() error) Before {
				return func(string, string) error {
					if left--; left == 0 {
						return then()
					}
					return nil
				}
			}))
			if err != nil {
				require.ErrorIs(t, err, errDead)
				require.NoError(t, life(home, rootOf(t, data), nil, w, nil))
			}
			require.Equal(t, w.healthy, settled(t, home, data, before, after))
			if err == nil {
				require.Greater(t, n, 5, "operations of the second life")
				break
			}
		}
	}
}

// An operation that fails once costs at most the patch, and says which one it was.
func TestErrorAtEveryOperation(t *testing.T) {
	t.Parallel()
	before, after := versions(t)
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			for i, o := range recordLife(t, w) {
				home, data, artifact := scene(t)
				cause := []error{syscall.ENOSPC, syscall.EIO, syscall.EROFS}[i%3]
				err := life(home, rootOf(t, data), artifact, w, o.at(func() error { return cause }))
				if errors.Is(err, cause) {
					require.ErrorContains(t, err, o.op)
					require.NotErrorIs(t, err, ErrInvalid)
				} else {
					require.Equal(t, "back up link", o.op, "there is another way if it fails")
				}
				require.NoError(t, life(home, rootOf(t, data), nil, w, nil), "%s", o)
				settled(t, home, data, before, after)
			}
		})
	}
}

// A disk that fails at one operation and ever after never has a server running between two versions: the journal says so.
func TestDeadDiskAtEveryOperation(t *testing.T) {
	t.Parallel()
	before, after := versions(t)
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			for _, o := range recordLife(t, w) {
				home, data, artifact := scene(t)
				require.ErrorIs(t, life(home, rootOf(t, data), artifact, w, dead(o.at)), errDead)
				if j := open(t, home, data, nil); j.Phase().Whole() {
					seen := contents(t, home)
					require.True(t, seen == contentsOf(before) || seen == contentsOf(after), "%s: served in phase %q: %s", o, j.Phase(), seen)
				}
				require.NoError(t, life(home, rootOf(t, data), nil, w, nil), "%s", o)
				settled(t, home, data, before, after)
			}
		})
	}
}

var errDead = errors.New("the disk is dead")

// dead lets every operation fail from one on.
func dead(at func(then func() error) Before) Before {
	over := false
	first := at(func() error { over = true; return nil })
	return func(op, name string) error {
		if err := first(op, name); err != nil || over {
			return errDead
		}
		return nil
	}
}

// contents is what a server sees: without what lies beside its files.
func contents(t *testing.T, home *os.Root) string { return contentsOf(snapshot(t, home.Name())) }

func contentsOf(seen map[string]string) string {
	var list []string
	for name, content := range seen {
		if strings.HasPrefix(content, "-") && !strings.Contains(name, ".booster-") && !IsGenerated(name) {
			list = append(list, name+" "+content[:min(len(content), 40)])
		}
	}
	slices.Sort(list)
	return strings.Join(list, "\n")
}

// What the next operation relies upon is synced before it: a killed process does not show that, a power cut would.
func TestEverythingIsSyncedBeforeItIsReliedUpon(t *testing.T) {
	t.Parallel()
	for name, steps := range map[string][]string{ // each ends before the next one begins
		"kept with copies": {
			"journal staging sync directory", "stage make directory", "stage write", "stage sync", "back up link", "back up copy sync",
			"back up sync directory",
			"journal switching sync", "journal switching rename", "journal switching sync directory", "switch rename", "switch delete",
			"switch sync directory",
			"journal switched sync", "journal switched rename", "journal switched sync directory",
			"journal proven sync", "journal proven rename", "journal proven sync directory", "forget backup", "forget sync directory", "journal end",
		},
		"rolled back": {
			"back up link", "back up sync directory", "journal switching sync directory", "switch rename", "journal switched sync directory",
			"journal restoring sync", "journal restoring rename", "journal restoring sync directory", "restore rename", "restore sync directory",
			"journal end",
		},
		"undone": {"journal switching sync directory", "switch rename", "restore rename", "restore sync directory", "journal end"},
	} {
		operations := recordLife(t, wayOf(name))
		ops := make([]string, len(operations))
		for i, o := range operations {
			ops[i] = o.op
		}
		if i := slices.Index(steps, "stage write"); i >= 0 { // file by file
			require.Equal(t, "stage sync", steps[i+1])
			steps = slices.Delete(slices.Clone(steps), i, i+1)
		}
		if name == "kept with copies" { // file by file, too, and a link is not even tried with success
			steps = slices.DeleteFunc(steps, func(s string) bool { return s == "back up link" })
		}
		last := -1
		for _, step := range steps {
			first := slices.Index(ops, step)
			require.Greater(t, first, last, "%s: %s comes too early", name, step)
			for last = len(ops) - 1; ops[last] != step; last-- {
			}
		}
	}
}

// What the server keeps in a new directory is not deleted with the patch.
func TestRestoreLeavesWhatIsNotOfThePatch(t *testing.T) {
	t.Parallel()
	home, data, artifact := scene(t)
	j := open(t, home, data, nil)
	require.NoError(t, j.Stage(bytes.NewReader(artifact), DefaultLimit, Report{}))
	require.NoError(t, j.Switch())
	require.NoError(t, home.WriteFile("omflow/new/dir/ticket.txt", []byte("precious"), 0o600))
	require.NoError(t, j.Restore("not healthy"))
	require.NoError(t, j.End())
	require.Equal(t, "-rw------- precious", snapshot(t, home.Name())["omflow/new/dir/ticket.txt"])
	require.NotContains(t, snapshot(t, home.Name()), "omflow/new/dir/b.py")
	require.NotContains(t, snapshot(t, home.Name()), "bin")
}

// The server runs between staging and switching, and may write where the patch does.
func TestHomeThatChangesAfterStaging(t *testing.T) {
	t.Parallel()
	home, data, artifact := scene(t)
	j := open(t, home, data, nil)
	require.NoError(t, j.Stage(bytes.NewReader(artifact), DefaultLimit, Report{}))
	require.NoError(t, home.WriteFile("bin/run.sh", []byte("by the server"), 0o600))
	require.NoError(t, home.WriteFile("omflow/a.py", []byte("edited"), 0o600))
	before := contents(t, home)
	require.NoError(t, j.Switch())
	require.NoError(t, j.Restore("not healthy"))
	require.NoError(t, j.End())
	require.Equal(t, before, contents(t, home), "the last files before the switch come back")

	require.NoError(t, j.Stage(bytes.NewReader(artifact), DefaultLimit, Report{}))
	require.NoError(t, home.Remove("omflow/a.py"))
	require.NoError(t, home.MkdirAll("omflow/a.py/in/the/way", 0o755))
	before = contents(t, home)
	require.ErrorContains(t, j.Switch(), "omflow/a.py is not a regular file")
	require.Equal(t, Staging, j.Phase())
	require.NoError(t, j.Restore(""))
	require.NoError(t, j.End())
	require.Equal(t, before, contents(t, home))
}

func TestJournalOfAnotherHomeIsRefused(t *testing.T) {
	t.Parallel()
	home, data, artifact := scene(t)
	require.NoError(t, open(t, home, data, nil).Stage(bytes.NewReader(artifact), DefaultLimit, Report{}))
	other := homeOf(t, oldFiles)
	_, err := Open(other, rootOf(t, data), nil)
	require.ErrorContains(t, err, home.Name())
	require.ErrorContains(t, err, other.Name())
	require.NoError(t, os.WriteFile(data+"/"+journalFile, []byte("{"), 0o600))
	_, err = Open(home, rootOf(t, data), nil)
	require.ErrorContains(t, err, data)
}
