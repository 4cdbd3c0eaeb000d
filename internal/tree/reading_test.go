package tree

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// kept are the paths that stay behind, each with the beginning of the reason.
func kept(r Reading) (told []string) {
	for _, s := range r.Stays {
		told = append(told, strings.Join(strings.Fields(s.Path + " " + s.Why)[:4], " "))
	}
	return told
}

// What cannot be carried keeps nothing else from being seen, and is no deletion.
func TestWhatStaysBehind(t *testing.T) {
	t.Parallel()
	dir, root := home(t, "a", "b", "moved/x", "moved/y/z")
	s := NewScanner(root, Ignore{})
	before := scan(t, s)
	require.Empty(t, before.Stays)

	write(t, dir, "a", "changed")
	require.NoError(t, os.Remove(filepath.Join(dir, "b")))
	write(t, dir, "two\nlines", "x")
	write(t, dir, "latin-\xe9.txt", "x")
	elsewhere := filepath.Join(t.TempDir(), "moved")
	require.NoError(t, os.Rename(filepath.Join(dir, "moved"), elsewhere))
	require.NoError(t, os.Symlink(elsewhere, filepath.Join(dir, "moved")))
	after := scan(t, s)
	require.Equal(t, []string{"latin-\xe9.txt has a name", "moved is a link,", "two lines has characters"}, kept(after))
	var told []string
	for _, c := range after.Since(before.Files) {
		told = append(told, c.Kind+" "+c.Path)
	}
	require.Equal(t, []string{"changed a", "missing b"}, told)
}

// A secret is not part of a tree, whatever its name, unless somebody has carried it to all servers.
func TestSecretsStayBehind(t *testing.T) {
	t.Parallel()
	dir, root := home(t, "a", "omflow/settings.py.before-20260131")
	write(t, dir, "all.json", `[{"password": "pbkdf2_sha256$150000$salt$`+strings.Repeat("A", 43)+`="}]`)
	r := scan(t, NewScanner(root, Ignore{}))
	require.Equal(t, []string{"all.json looks like password", "omflow/settings.py.before-20260131 looks like a"}, kept(r))
	require.Len(t, r.Files, 1)
	require.Len(t, r.Behind(Tree{"all.json": {SHA256: r.Stays[0].SHA256}}), 1)
	require.Empty(t, r.Since(Tree{"all.json": {SHA256: "another"}, "a": r.Files["a"]}))
}

// What no patch can carry is not read, however often it changes.
func TestFileThatIsTooLargeIsNotRead(t *testing.T) {
	t.Parallel()
	dir, root := home(t, "a", "dump")
	require.NoError(t, os.Truncate(filepath.Join(dir, "dump"), 4<<30)) // with holes: it takes no room
	s := NewScanner(root, Ignore{})
	for range 3 {
		r := scan(t, s)
		require.Equal(t, []string{"dump has 4.0 GiB,"}, kept(r))
		require.Contains(t, r.Stays[0].Why, "a patch carries at most 1.0 GiB")
		require.Empty(t, s.seen["dump"].SHA256)
		require.LessOrEqual(t, s.progress.files, 1)
	}
}

// A file is read when it rests, and its last content holds until then.
func TestFileThatIsBeingWrittenIsNotRead(t *testing.T) {
	t.Parallel()
	dir, root := home(t, "a", "b")
	s := NewScanner(root, Ignore{})
	before := scan(t, s).Files
	write(t, dir, "a", "one")
	write(t, dir, "new", "one")
	read := func(rest time.Duration) Reading {
		r, err := s.Scan(t.Context(), rest)
		require.NoError(t, err)
		return r
	}
	var paths []string
	for _, m := range read(time.Hour).Moving {
		paths = append(paths, m.Path)
	}
	require.Equal(t, []string{"a", "new"}, paths)
	r := read(time.Hour)
	require.Empty(t, r.Since(before))
	require.Positive(t, r.Moving[0].For)
	require.Len(t, read(0).Since(before), 2)
	require.Len(t, read(time.Hour).Moving, 0, "it is known, and has not changed")
}

// A large file that grows from time to time is not read again and again: it has to rest for longer than a small one.
func TestLargeFileHasToRestForLonger(t *testing.T) {
	t.Parallel()
	dir, root := home(t, "small")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "large"), nil, 0o600))
	require.NoError(t, os.Truncate(filepath.Join(dir, "large"), 900<<20))
	r, err := NewScanner(root, Ignore{}).Scan(t.Context(), time.Nanosecond)
	require.NoError(t, err)
	require.Contains(t, r.Files, "small")
	require.Len(t, r.Moving, 1)
	require.Equal(t, "large", r.Moving[0].Path)
}
