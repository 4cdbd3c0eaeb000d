package tree

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

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
