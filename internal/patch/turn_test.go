package patch

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// turning is a home, and a patch that makes a directory of a file and a file of a directory.
func turning(t *testing.T) (home *os.Root, artifact []byte) {
	t.Helper()
	home = homeOf(t, map[string]string{
		"views.py": "1", "views": "a module", "forms/__init__.py": "a package", "forms/deep/x.py": "x",
		"same.py": "same",
	})
	artifact, _ = build(t, map[string]string{
		"views/__init__.py": "a package", "views/deep/er.py": "deep", "forms": "a file",
		"same.py": "same",
	}, Options{
		Deletions: []string{"views", "forms/__init__.py", "forms/deep/x.py", "forms/never.py", "never"},
	})
	return home, artifact
}

func TestFileBecomesADirectoryAndADirectoryAFile(t *testing.T) {
	t.Parallel()
	home, artifact := turning(t)
	before := snapshot(t, home.Name())
	j := open(t, home, t.TempDir(), nil)
	require.NoError(t, j.Stage(bytes.NewReader(artifact), DefaultLimit, Report{}))
	var revert bytes.Buffer
	m, err := j.Revert(&revert, ann, "ann")
	require.NoError(t, err)
	require.Equal(t, []string{"forms", "views/__init__.py", "views/deep/er.py"}, m.Deletions)
	require.NoError(t, j.Switch())
	require.Equal(t, [2]int{3, 3}, [2]int{j.Report().Files, j.Report().Deleted})
	require.NoError(t, j.Commit())
	require.NoError(t, j.End())
	after := snapshot(t, home.Name())
	require.Equal(t, map[string]string{
		".": after["."], "views.py": "-rw-r--r-- 1", "views": "drwxr-xr-x ", "views/__init__.py": "-rw-r--r-- a package",
		"views/deep":       "drwxr-xr-x ",
		"views/deep/er.py": "-rw-r--r-- deep", "forms": "-rw-r--r-- a file", "same.py": "-rw-r--r-- same",
	}, after)

	again, err := apply(t, home, artifact, DefaultLimit)
	require.NoError(t, err)
	require.Zero(t, again, "a home that has the patch is not written to")

	_, err = apply(t, home, revert.Bytes(), DefaultLimit)
	require.NoError(t, err)
	require.Equal(t, before, snapshot(t, home.Name()), "the way back")
}

// Who builds a patch of a directory need not say that a file cannot stay where it has a directory.
func TestFileMakesWayForADirectoryUnasked(t *testing.T) {
	t.Parallel()
	home := homeOf(t, map[string]string{"views": "a module"})
	artifact, _ := build(t, map[string]string{"views/__init__.py": "a package"}, Options{})
	j := open(t, home, t.TempDir(), nil)
	require.NoError(t, j.Stage(bytes.NewReader(artifact), DefaultLimit, Report{}))
	require.Equal(t, []string{"views"}, j.Content().Deletions, "its baseline has to know")
	require.NoError(t, j.Restore(""))
	require.NoError(t, j.End())
	_, err := apply(t, home, artifact, DefaultLimit)
	require.NoError(t, err)
	require.Equal(t, "-rw-r--r-- a package", snapshot(t, home.Name())["views/__init__.py"])
}

// Where a server's own file holds, what the patch has in the place of it does not come.
func TestKeptFileKeepsItsPlace(t *testing.T) {
	t.Parallel()
	home, artifact := turning(t)
	j := open(t, home, t.TempDir(), nil)
	require.NoError(t, j.Stage(bytes.NewReader(artifact), DefaultLimit, Report{}, "views", "forms/deep/x.py"))
	require.NoError(t, j.Switch())
	require.NoError(t, j.Commit())
	require.NoError(t, j.End())
	after := snapshot(t, home.Name())
	require.Equal(t, "-rw-r--r-- a module", after["views"])
	require.Equal(t, "-rw-r--r-- x", after["forms/deep/x.py"])
	require.NotContains(t, after, "forms/__init__.py")
}

// What the server has written in a directory that has to make way for the old file is not deleted.
func TestWhatWasWrittenInANewDirectoryIsKept(t *testing.T) {
	t.Parallel()
	home, artifact := turning(t)
	before := snapshot(t, home.Name())
	j := open(t, home, t.TempDir(), nil)
	require.NoError(t, j.Stage(bytes.NewReader(artifact), DefaultLimit, Report{}))
	require.NoError(t, j.Switch())
	require.NoError(t, home.WriteFile("views/deep/ticket.txt", []byte("precious"), 0o600))
	require.NoError(t, j.Restore("not healthy"))
	said := j.Report().Error
	require.NoError(t, j.End())
	after := snapshot(t, home.Name())
	for name, is := range before {
		require.Equal(t, is, after[name], name)
	}
	kept, err := filepath.Glob(filepath.Join(home.Name(), tempPrefix+"*.kept/deep/ticket.txt"))
	require.NoError(t, err)
	require.Len(t, kept, 1)
	require.Contains(t, said, "what was written in views/ is now in "+tempPrefix)
}

// The server runs between staging and switching.
func TestDirectoryThatGetsMoreAfterStaging(t *testing.T) {
	t.Parallel()
	home, artifact := turning(t)
	j := open(t, home, t.TempDir(), nil)
	require.NoError(t, j.Stage(bytes.NewReader(artifact), DefaultLimit, Report{}))
	require.NoError(t, home.WriteFile("forms/deep/ticket.txt", []byte("precious"), 0o600))
	before := contents(t, home)
	require.ErrorIs(t, j.Switch(), ErrInvalid)
	require.NoError(t, j.Restore(""))
	require.NoError(t, j.End())
	require.Equal(t, before, contents(t, home))
}

// A home that is to be like another one loses what that one does not have, in the same step.
func TestStageExactRemovesTheRest(t *testing.T) {
	t.Parallel()
	home := homeOf(t, map[string]string{"a.py": "old", "b/c.py": "more", "keep.py": "mine"})
	artifact, _ := build(t, map[string]string{"a.py": "new", "b": "a file"}, Options{Whole: true})
	j := open(t, home, t.TempDir(), nil)
	require.NoError(t, j.StageExact(bytes.NewReader(artifact), DefaultLimit, Report{}, []string{"b/c.py", "keep.py"}, "keep.py"))
	require.NoError(t, j.Switch())
	require.NoError(t, j.Commit())
	require.NoError(t, j.End())
	after := snapshot(t, home.Name())
	require.Equal(t, map[string]string{".": after["."], "a.py": "-rw-r--r-- new", "b": "-rw-r--r-- a file", "keep.py": "-rw-r--r-- mine"},
		after)
}
