package tree

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// home is a directory with some files, each with its name for its content.
func home(t *testing.T, names ...string) (dir string, root *os.Root) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range names {
		write(t, dir, name, name)
	}
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = root.Close() })
	return dir, root
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	full := filepath.Join(dir, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(full), 0o755))
	require.NoError(t, os.WriteFile(full, []byte(content), 0o644))
}

func TestWhatIsPartOfATree(t *testing.T) {
	t.Parallel()
	dir, root := home(t, "manage.py", "omflow/app.py", "omflow/settings.py", "omflow/syscom/version.bin", "omflow/syscom/license.bin",
		"logs/a.txt", "uploads/x/y",
		"omflow/__pycache__/app.pyc", ".git/HEAD", "omflow/.app.py.swp", "omflow/app.py~", "server.pid", "omflow/.booster-1-0.new", "cache/x",
		"static/made/x",
		"static/x", "a.cache", "deep/down/cache/x")
	require.NoError(t, os.Symlink("manage.py", filepath.Join(dir, "link.py")))
	require.NoError(t, os.Symlink("omflow", filepath.Join(dir, "linked")))
	ignore, err := NewIgnore([]string{"cache/", "static/made/", " *.cache", ""})
	require.NoError(t, err)
	read, err := NewScanner(root, ignore).Scan(t.Context(), 0)
	require.NoError(t, err)
	found := read.Files
	require.Equal(t, Tree{
		"manage.py": found["manage.py"], "omflow/app.py": found["omflow/app.py"], "omflow/syscom/version.bin": found["omflow/syscom/version.bin"],
		"static/x": found["static/x"],
	}, found)
	require.EqualValues(t, 13, found["omflow/app.py"].Size)
	for name, part := range map[string]bool{
		"omflow/app.py": true, "logs/a": false, "deep/cache/x": false, "static/made/x": false,
		"static/makes/x": true,
	} {
		require.Equal(t, !part, ignore.MatchPath(name), name)
	}
}

func TestDiff(t *testing.T) {
	t.Parallel()
	dir, root := home(t, "a", "b", "c", "d")
	s := NewScanner(root, Ignore{})
	before := scan(t, s).Files
	require.Empty(t, Diff(before, before))
	require.Empty(t, DigestOf(nil))
	write(t, dir, "a", "A") // within the same tick of the clock, and as long as before
	require.NoError(t, os.Remove(filepath.Join(dir, "b")))
	require.NoError(t, os.Chmod(filepath.Join(dir, "c"), 0o600))
	write(t, dir, "e/f", "new")
	after := scan(t, s).Files
	changes := Diff(before, after)
	var told []string
	for _, c := range changes {
		told = append(told, c.Kind+" "+c.Path)
	}
	require.Equal(t, []string{"changed a", "missing b", "changed c", "added e/f"}, told)
	require.NotEqual(t, before.Digest(), after.Digest())
	require.Equal(t, DigestOf(changes), DigestOf(Diff(before, after)))
	require.NotEqual(t, DigestOf(changes), DigestOf(Diff(after, before)))
}

func scan(t *testing.T, s *Scanner) Reading {
	t.Helper()
	r, err := s.Scan(t.Context(), 0)
	require.NoError(t, err)
	return r
}

func TestOneFileIsRead(t *testing.T) {
	t.Parallel()
	_, root := home(t, "a")
	is := scan(t, NewScanner(root, Ignore{})).Files["a"]
	require.Equal(t, patch.Mode(0o644), is.Mode)
	one, err := Read(root, "a")
	require.NoError(t, err)
	require.Equal(t, is.SHA256, one)
	none, err := Read(root, "none")
	require.NoError(t, err)
	require.Empty(t, none)
}

func TestWatchTellsOfChanges(t *testing.T) {
	t.Parallel()
	dir, _ := home(t, "omflow/app.py", "logs/x")
	ctx, cancel := context.WithCancel(t.Context())
	moved, done := make(chan struct{}, 1), make(chan error, 1)
	go func() { done <- Watch(ctx, dir, Ignore{}, moved, func(err error) { t.Error(err) }) }()
	told := func(name string) bool {
		for range 100 { // until it watches
			write(t, dir, name, time.Now().String())
			select {
			case <-moved:
				return true
			case <-time.After(20 * time.Millisecond):
			}
		}
		return false
	}
	require.True(t, told("omflow/app.py"))
	require.True(t, told("new/deep/down.py"))
	for drained := false; !drained; {
		select {
		case <-moved:
		case <-time.After(100 * time.Millisecond):
			drained = true
		}
	}
	write(t, dir, "logs/x", "noise")
	write(t, dir, "omflow/__pycache__/app.pyc", "noise")
	select {
	case <-moved:
		t.Fatal("told of noise")
	case <-time.After(200 * time.Millisecond):
	}
	cancel()
	require.NoError(t, <-done)
}

// On Windows every file looks as if it could be written and not run: that is no change, whatever the patch has said.
func TestModesThatTheSystemMakesUpAreNoChange(t *testing.T) {
	t.Parallel()
	baseline := Tree{"manage.py": {SHA256: "a", Mode: 0o755}, "app.py": {SHA256: "b", Mode: 0o640}}
	found := Tree{"manage.py": {SHA256: "a", Mode: 0o666}, "app.py": {SHA256: "b2", Mode: 0o666}, "new.py": {SHA256: "c", Mode: 0o666}}
	found.takeModes(baseline)
	require.Equal(t, Tree{
		"manage.py": {SHA256: "a", Mode: 0o755}, "app.py": {SHA256: "b2", Mode: 0o640},
		"new.py": {SHA256: "c", Mode: 0o644},
	}, found)
	require.Len(t, Diff(baseline, found), 2)
}
