package logfile

import (
	"bytes"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("FULL DISKS ARE NOT TESTED: no right to mount a small file system: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	var log bytes.Buffer
	f := New(filepath.Join(dir, "x.log"), Options{Size: 1 << 20, Keep: 1}, zerolog.New(&log))
	defer f.Close()
	for range 100 {
		write(t, f, strings.Repeat("x", 4<<10))
	}
	require.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
	require.Contains(t, log.String(), syscall.ENOSPC.Error())
}
