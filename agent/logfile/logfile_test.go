package logfile

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

// contents are all files of a directory, by name.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	all := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		all[e.Name()] = string(data)
	}
	return all
}

func write(t *testing.T, f *File, lines ...string) {
	t.Helper()
	for _, line := range lines {
		n, err := fmt.Fprintln(f, line)
		require.NoError(t, err)
		require.Equal(t, len(line)+1, n)
	}
}

func TestFormerFilesAreKeptByNumber(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made", "when needed")
	f := New(filepath.Join(dir, "x.log"), Options{Size: 8, Keep: 2}, zerolog.Nop())
	defer f.Close()
	for _, step := range []struct {
		line string
		want map[string]string
	}{
		{"one", map[string]string{"x.log": "one\n"}},
		{"two", map[string]string{"x.log": "one\ntwo\n"}},
		{"three", map[string]string{"x.log": "three\n", "x.log.1": "one\ntwo\n"}},
		{"longer than a file", map[string]string{"x.log": "longer than a file\n", "x.log.1": "three\n", "x.log.2": "one\ntwo\n"}},
		{"five", map[string]string{"x.log": "five\n", "x.log.1": "longer than a file\n", "x.log.2": "three\n"}},
	} {
		write(t, f, step.line)
		require.Equal(t, step.want, contents(t, dir), step.line)
	}
}

func TestFileGoesOnWhereAnEarlierLifeEnded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, life := range []string{"one", "two", "three"} {
		f := New(filepath.Join(dir, "x.log"), Options{Size: 8, Keep: 1}, zerolog.Nop())
		write(t, f, life)
		f.Close()
	}
	require.Equal(t, map[string]string{"x.log": "three\n", "x.log.1": "one\ntwo\n"}, contents(t, dir))
}

func TestFewerFilesAreKeptAfterAChange(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, keep := range []int{3, 1, 0} {
		f := New(filepath.Join(dir, "x.log"), Options{Size: 4, Keep: keep}, zerolog.Nop())
		write(t, f, "aaa", "bbb", "ccc", "ddd", "eee")
		f.Close()
		require.Len(t, contents(t, dir), keep+1)
	}
}

// A rotation that was interrupted leaves a gap in the numbers; the next one fills it and loses nothing.
func TestInterruptedRotation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	before := map[string]string{"x.log": "now\n", "x.log.2": "b\n", "x.log.3": "c\n"}
	for name, content := range before {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	f := New(filepath.Join(dir, "x.log"), Options{Size: 4, Keep: 3}, zerolog.Nop())
	defer f.Close()
	write(t, f, "new")
	want := maps.Clone(before)
	want["x.log"], want["x.log.1"] = "new\n", "now\n"
	require.Equal(t, want, contents(t, dir))
}

// Nobody who writes hears of a directory that cannot be used; the log does, once, and when it is well again.
func TestTroubleIsSaidOnceAndPasses(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "logs")
	require.NoError(t, os.WriteFile(dir, nil, 0o600), "a file where the directory belongs")
	var log bytes.Buffer
	f := New(filepath.Join(dir, "x.log"), Options{Size: 1000, Keep: 1}, zerolog.New(&log))
	defer f.Close()
	now := time.Now()
	f.now = func() time.Time { return now }
	write(t, f, "one", "two")
	now = now.Add(retryEvery)
	write(t, f, "three")
	require.Equal(t, 1, strings.Count(log.String(), "log file cannot be written"), log.String())

	require.NoError(t, os.Remove(dir))
	write(t, f, "not yet tried again")
	require.NoFileExists(t, filepath.Join(dir, "x.log"))
	now = now.Add(retryEvery)
	write(t, f, "four")
	require.Equal(t, map[string]string{"x.log": "four\n"}, contents(t, dir))
	require.Contains(t, log.String(), `"lost_bytes":34,"message":"log file is written again"`)
	write(t, f, "five")
	require.Equal(t, 2, strings.Count(log.String(), "\n"), log.String())
}

// Others move, remove and empty log files; what comes after that is in the file that people look at.
func TestFileThatOthersHaveTouchedIsOpenedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "x.log")
	f := New(path, Options{Size: 10, Keep: 2}, zerolog.Nop())
	defer f.Close()
	now := time.Now()
	f.now = func() time.Time { return now }
	later := func() { now = now.Add(checkEvery) }
	write(t, f, "one")
	require.NoError(t, os.Rename(path, path+"-20260101"))
	later()
	write(t, f, "two")
	require.Equal(t, map[string]string{"x.log-20260101": "one\n", "x.log": "two\n"}, contents(t, dir))
	require.NoError(t, os.Remove(path))
	later()
	write(t, f, "three")
	require.Equal(t, "three\n", contents(t, dir)["x.log"])
	require.NoError(t, os.Truncate(path, 0))
	later()
	write(t, f, "four", "five")
	require.Equal(t, map[string]string{"x.log-20260101": "one\n", "x.log": "four\nfive\n"}, contents(t, dir), "no rotation: there was room")
}
