package patch

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestApplyReplacesAddsAndDeletes(t *testing.T) {
	t.Parallel()
	home := homeOf(t, map[string]string{
		"omflow/a.py": "old", "omflow/same.py": "same", "omflow/gone.py": "x", "omflow/settings.py": "mine",
	})
	dir := tree(map[string]string{
		"omflow/a.py": "new a", "omflow/same.py": "same", "omflow/deep/er/b.py": "b",
		"omflow/__pycache__/a.pyc": "no", "omflow/stray.pyc": "no", VersionFile: "version=1.1.5.0\n",
	})
	dir["bin/run.sh"] = &fstest.MapFile{Data: []byte("#!/bin/sh\n"), Mode: 0o750}
	var artifact bytes.Buffer
	m, err := Build(&artifact, dir, Options{
		Signer: ann, From: "1.1.4.0", Note: "fix",
		Deletions: []string{"omflow/gone.py", "omflow/never.py"},
	})
	require.NoError(t, err)
	require.Equal(t, "1.1.5.0", m.To, "the version comes from the version file")
	require.Equal(t, VersionFile, m.Files[len(m.Files)-1].Path, "the version file comes last")

	done, err := apply(t, home, artifact.Bytes(), DefaultLimit)
	require.NoError(t, err)
	require.Equal(t, Report{Written: Written{Files: 4, Bytes: 5 + 1 + 16 + 10, Deleted: 1}}, done)
	after := snapshot(t, home.Name())
	require.Equal(t, map[string]string{
		".": after["."], "bin": "drwxr-xr-x ", "omflow": "drwxr-xr-x ", "omflow/deep": "drwxr-xr-x ", "omflow/deep/er": "drwxr-xr-x ",
		"omflow/syscom": "drwxr-xr-x ",
		"bin/run.sh":    "-rwxr-x--- #!/bin/sh\n", "omflow/a.py": "-rw-r--r-- new a", "omflow/same.py": "-rw-r--r-- same",
		"omflow/deep/er/b.py": "-rw-r--r-- b", VersionFile: "-rw-r--r-- version=1.1.5.0\n", "omflow/settings.py": "-rw-r--r-- mine",
	}, after)
	require.Equal(t, "1.1.5.0", HomeVersion(home.FS()))

	again, err := apply(t, home, artifact.Bytes(), DefaultLimit)
	require.NoError(t, err)
	require.Zero(t, again, "a home that has the patch is not written to")
}

func TestStagedPatchIsTakenBack(t *testing.T) {
	t.Parallel()
	home := homeOf(t, map[string]string{"omflow/a.py": "old"})
	before := snapshot(t, home.Name())
	artifact, m := build(t, map[string]string{"omflow/a.py": "new", "omflow/x/y/z.py": "new"}, Options{})
	j := open(t, home, t.TempDir(), nil)
	require.NoError(t, j.Stage(bytes.NewReader(artifact), DefaultLimit, Report{}))
	require.Equal(t, m.ID, j.Report().Patch)
	require.NotEqual(t, before, snapshot(t, home.Name()), "the new files lie beside the old ones")
	require.ErrorContains(t, j.Stage(bytes.NewReader(artifact), DefaultLimit, Report{}), "is under way")
	require.NoError(t, j.Restore(""))
	require.NoError(t, j.End())
	require.Equal(t, before, snapshot(t, home.Name()))
}

// What a crash has left in the home does not disturb the next try, even if the journal was lost with it.
func TestStagingReplacesWhatWasLeft(t *testing.T) {
	t.Parallel()
	home := homeOf(t, map[string]string{"a": "old", "b": "old"})
	artifact, _ := build(t, map[string]string{"a": "new"}, Options{Deletions: []string{"b"}})
	lost := open(t, home, t.TempDir(), nil)
	require.NoError(t, lost.Stage(bytes.NewReader(artifact), DefaultLimit, Report{}))
	_, err := lost.backUp(0)
	require.NoError(t, err)
	done, err := apply(t, home, artifact, DefaultLimit)
	require.NoError(t, err)
	require.Equal(t, 1, done.Files)
	require.Len(t, snapshot(t, home.Name()), 2)
}

func TestBuildRefusesWhatAgentsWould(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(dir, "link")))
	_, err := Build(io.Discard, os.DirFS(dir), Options{Signer: ann})
	require.ErrorIs(t, err, ErrInvalid)
	require.ErrorContains(t, err, "link is not a regular file")
	_, err = Build(io.Discard, tree(map[string]string{"uploads/x": "x"}), Options{Signer: ann})
	require.ErrorContains(t, err, "uploads/x belongs to each server alone")
	_, err = Build(io.Discard, tree(nil), Options{Signer: ann})
	require.ErrorContains(t, err, "no files")
}

func TestIDsSortByTime(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 31, 23, 59, 59, 998e6, time.UTC)
	for i := range 4 { // across the next second, day and month
		earlier, later := now.Add(time.Duration(i)*time.Millisecond), now.Add(time.Duration(i+1)*time.Millisecond)
		require.Less(t, NewID(earlier), NewID(later))
		require.True(t, ValidID(NewID(later)))
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"version=1.1.4.0\nversion_num=1140\n": "1.1.4.0",
		"version_num=1140\r\nversion=1.1.4\r": "1.1.4",
		"version_num = '1140'\n":              "1140",
		"nothing here":                        "",
		"version=\x01\x02\n":                  "",
	} {
		require.Equal(t, want, HomeVersion(fstest.MapFS{VersionFile: {Data: []byte(text)}}), "%q", text)
	}
	require.Empty(t, HomeVersion(fstest.MapFS{}))

	for _, c := range []struct {
		home, from, to string
		fits, refused  bool
	}{
		{home: "", from: "1.1.3", to: "1.1.4", fits: true},
		{home: "1.1.3", from: "1.1.3", to: "1.1.4", fits: true},
		{home: "1.1.4", from: "1.1.3", to: "1.1.4", fits: true}, // has it in part, or from another hand
		{home: "1.1.10", from: "1.1.3", to: "1.1.4"},            // older than the home
		{home: "1.1.2", from: "1.1.3", to: "1.1.4", refused: true},
		{home: "1.1.2", to: "1.1.4", fits: true},
		{home: "1140", to: "1.1.4.0", fits: true}, // not comparable
		{home: "1.1.4", fits: true},
	} {
		fits, err := Announcement{From: c.from, To: c.to}.FitsHome(c.home)
		require.Equal(t, c.fits, fits, "%+v", c)
		require.Equal(t, c.refused, err != nil, "%+v", c)
	}
}

// Memory does not grow with the patch. Not parallel: it counts the allocations of the whole process.
func TestLargePatchIsStreamed(t *testing.T) {
	const size = 96 << 20
	dir := t.TempDir()
	big, err := os.Create(filepath.Join(dir, "big"))
	require.NoError(t, err)
	require.NoError(t, big.Truncate(size))
	require.NoError(t, big.Close())
	artifact, err := os.Create(filepath.Join(t.TempDir(), "artifact"))
	require.NoError(t, err)
	defer func() { _ = artifact.Close() }()
	home := homeOf(t, nil)

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = Build(artifact, os.DirFS(dir), Options{Signer: ann})
	require.NoError(t, err)
	_, err = artifact.Seek(0, io.SeekStart)
	require.NoError(t, err)
	j := open(t, home, t.TempDir(), nil)
	require.NoError(t, j.Stage(artifact, DefaultLimit, Report{}))
	require.NoError(t, j.Switch())
	require.NoError(t, j.Commit())
	require.NoError(t, j.End())
	runtime.ReadMemStats(&after)
	require.EqualValues(t, size, fileSize(t, filepath.Join(home.Name(), "big")))
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<20), "bytes allocated to build and apply %d", size)
}

func fileSize(t *testing.T, name string) int64 {
	t.Helper()
	info, err := os.Stat(name)
	require.NoError(t, err)
	return info.Size()
}
