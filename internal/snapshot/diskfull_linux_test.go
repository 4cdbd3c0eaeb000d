package snapshot

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// smallDisk is a directory on a file system with room for that many bytes.
func smallDisk(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("no right to mount a small file system, so what happens on a full disk is not tested: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	c := fresh(t).Client()
	fill(t, c.JS)
	disk := smallDisk(t, "size=256k")
	_, err := Take(t.Context(), c.JS, filepath.Join(disk, "snapshot"), TakeOptions{})
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.ErrorContains(t, err, disk, "says where")
	entries, err := os.ReadDir(filepath.Join(disk, "snapshot"))
	require.NoError(t, err)
	require.Empty(t, entries)

	dir, _ := taken(t, c.JS)
	out := filepath.Join(disk, "b.tar.zst")
	_, err = Pack(t.Context(), dir, out, false)
	require.ErrorIs(t, err, syscall.ENOSPC)
	entries, err = os.ReadDir(disk)
	require.NoError(t, err)
	require.Len(t, entries, 1, "the directory of the snapshot alone")
}
