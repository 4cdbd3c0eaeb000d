package tree

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/stretchr/testify/require"
)

// asNobody lets this goroutine touch files as a user without rights for the rest of the test, if it is root's. Its thread ends with it.
func asNobody(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if os.Getuid() != 0 {
		return
	}
	_, _, errno := syscall.RawSyscall(syscall.SYS_SETFSUID, 65534, 0, 0)
	require.Zero(t, errno)
}

func TestWhatCannotBeReadStaysBehind(t *testing.T) {
	t.Parallel()
	dir, root := home(t, "a", "locked/x", "open/locked", "open/x")
	for at := dir; at != os.TempDir(); at = filepath.Dir(at) {
		require.NoError(t, os.Chmod(at, 0o755))
	}
	s := NewScanner(root, Ignore{})
	before := scan(t, s)
	require.NoError(t, os.Chmod(filepath.Join(dir, "locked"), 0))
	require.NoError(t, os.Chmod(filepath.Join(dir, "open/locked"), 0))
	write(t, dir, "open/x", "changed")
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(dir, "locked"), 0o755) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		asNobody(t)
		after := scan(t, s)
		require.Equal(t, []string{"locked cannot be read", "open/locked cannot be read"}, kept(after))
		require.Contains(t, after.Stays[0].Why, "(permission denied): give the agent's user the right")
		changes := after.Since(before.Files)
		require.Len(t, changes, 1)
		require.Equal(t, "open/x", changes[0].Path)
	}()
	<-done
}

// Some programs bring files with the size and time of the old ones: tar, rsync, wheels that are built reproducibly. Nothing
// else is read again.
func TestScanReadsOnlyWhatHasChanged(t *testing.T) {
	t.Parallel()
	dir, root := home(t, "a", "b")
	old := time.Now().Add(-time.Hour)
	for _, name := range []string{"a", "b"} {
		require.NoError(t, os.Chtimes(filepath.Join(dir, name), old, old))
	}
	s := NewScanner(root, Ignore{})
	before := scan(t, s)
	write(t, dir, "a", "A")
	write(t, dir, "c", "B")
	for _, name := range []string{"a", "c"} {
		require.NoError(t, os.Chtimes(filepath.Join(dir, name), old, old))
	}
	require.NoError(t, os.Rename(filepath.Join(dir, "c"), filepath.Join(dir, "b")))
	after := scan(t, s)
	require.NotEqual(t, before.Files["a"], after.Files["a"], "written in place")
	require.NotEqual(t, before.Files["b"], after.Files["b"], "replaced")

	for name, was := range s.seen { // as if they had been at rest when they were read
		was.read, was.SHA256 = was.Altered.Add(2*settles), "remembered"
		s.seen[name] = was
	}
	require.Equal(t, "remembered", scan(t, s).Files["a"].SHA256)
}

func TestLimitOfTheKernelIsNamed(t *testing.T) {
	t.Parallel()
	for errno, setting := range map[syscall.Errno]string{
		syscall.ENOSPC: "fs.inotify.max_user_watches", syscall.EMFILE: "fs.inotify.max_user_instances",
	} {
		err := limit(fmt.Errorf("watch: %w", errno))
		require.ErrorIs(t, err, errno)
		require.Regexp(t, setting+` \(.*\) is \d+; raise it with sysctl`, err.Error())
	}
	require.Equal(t, syscall.EACCES, limit(syscall.EACCES))
}

// One directory that cannot be watched leaves the others watched.
func TestWatchGoesOnWithoutWhatCannotBeWatched(t *testing.T) {
	t.Parallel()
	dir, _ := home(t, "a", "locked/x")
	for at := dir; at != os.TempDir(); at = filepath.Dir(at) {
		require.NoError(t, os.Chmod(at, 0o777))
	}
	require.NoError(t, os.Chmod(filepath.Join(dir, "locked"), 0))
	w, err := fsnotify.NewWatcher()
	require.NoError(t, err)
	defer func() { _ = w.Close() }()
	done := make(chan error)
	go func() {
		asNobody(t)
		done <- watchBelow(w, dir, dir, Ignore{})
	}()
	require.ErrorIs(t, <-done, syscall.EACCES)
	require.Equal(t, []string{dir}, w.WatchList())
}
