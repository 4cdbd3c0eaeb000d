package patch

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// kill runs a life in a process of its own, which kills itself at the operation.
func kill(t *testing.T, w way, o operation) (home *os.Root, data string) {
	t.Helper()
	home, data, artifact := scene(t)
	file := filepath.Join(t.TempDir(), "artifact")
	require.NoError(t, os.WriteFile(file, artifact, 0o600))
	cmd := exec.CommandContext(t.Context(), os.Args[0], "life", home.Name(), data, file, w.name, o.op, strconv.Itoa(o.n))
	output, err := cmd.CombinedOutput()
	require.Error(t, err, "%s was not reached: %s", o, output)
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	require.True(t, ok && status.Signal() == syscall.SIGKILL, "%s: %v: %s", o, err, output)
	return home, data
}

// An agent that is killed at any operation leaves a home that its next life brings into one version.
func TestKilledAtEveryOperation(t *testing.T) {
	t.Parallel()
	before, after := versions(t)
	require.NotEqual(t, before, after)
	// of the other ways what is not in the first two; all of them die in TestDeadDiskAtEveryOperation
	for name, only := range map[string]string{
		"kept": "", "rolled back": "", "kept with copies": "back up ", "undone": "restore ",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, ends, killed := wayOf(name), make(map[bool]int), 0
			for _, o := range recordLife(t, w) {
				if !strings.HasPrefix(o.op, only) {
					continue
				}
				killed++
				home, data := kill(t, w, o)
				require.NoError(t, life(home, rootOf(t, data), nil, w, nil), o)
				isNew := settled(t, home, data, before, after)
				ends[isNew]++
				if t.Failed() {
					t.Fatal("killed at ", o)
				}
			}
			t.Logf("killed at %d operations", killed)
			require.NotZero(t, ends[false])
			require.Equal(t, w.endsAsNew && only == "", ends[true] > 0)
		})
	}
}

// A file that belongs to the account of the server does so in every version, with links and with copies; what is restored is as
// old as before.
func TestOwnerStays(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("OWNERS ARE NOT TESTED: only root may give a file away")
	}
	for _, w := range ways {
		home, data, artifact := scene(t)
		require.NoError(t, home.Chown("omflow/a.py", 1234, 2345))
		require.NoError(t, home.Chmod("omflow/a.py", 0o600|os.ModeSetgid))
		edited := time.Now().Add(-time.Hour).Truncate(time.Second)
		require.NoError(t, home.Chtimes("omflow/a.py", edited, edited))
		err := life(home, rootOf(t, data), artifact, w, nil)
		require.Equal(t, w.undone, err != nil)
		info, err := home.Stat("omflow/a.py")
		require.NoError(t, err)
		owner := info.Sys().(*syscall.Stat_t)
		require.EqualValues(t, []uint32{1234, 2345}, []uint32{owner.Uid, owner.Gid}, w.name)
		if !w.endsAsNew {
			require.Equal(t, 0o600|os.ModeSetgid, info.Mode(), w.name)
			require.True(t, edited.Equal(info.ModTime()), "%s: %s", w.name, info.ModTime())
		}
	}
}

// What is not there is left alone, so that a home that is read-only can be refused; see also the agent's test of full disks.
func TestReadOnlyHomeIsRefused(t *testing.T) {
	t.Parallel()
	for name, deletesOnly := range map[string]bool{"files": false, "deletions alone": true} {
		home, data, artifact := scene(t)
		if deletesOnly {
			artifact, _ = build(t, map[string]string{"omflow/same.py": "same"}, Options{Deletions: []string{"omflow/gone.py"}})
		}
		before := snapshot(t, home.Name())
		dir := home.Name()
		if err := syscall.Mount(dir, dir, "", syscall.MS_BIND, ""); err != nil {
			t.Skipf("READ-ONLY HOMES ARE NOT TESTED: no right to mount: %v", err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
		require.NoError(t, syscall.Mount("", dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
		readOnly := rootOf(t, dir)
		err := life(readOnly, rootOf(t, data), artifact, wayOf("kept"), nil)
		require.ErrorIs(t, err, syscall.EROFS, name)
		require.True(t, strings.Contains(err.Error(), "stage"), err)
		settled(t, home, data, before, nil)
	}
}
