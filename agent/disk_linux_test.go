package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// A home that has no room, or may not be written, is found out while the server runs, and left as it is.
func TestHomeThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	full := bytes.Repeat([]byte("x"), 1<<20)
	for name, c := range map[string]struct {
		spoil, mend func(n *node) error
		says        error
	}{
		"full disk": {
			func(n *node) error {
				if err := os.WriteFile(filepath.Join(n.cfg.Home, "full"), full, 0o600); err == nil {
					return os.ErrInvalid // there was room for it
				}
				return nil
			},
			func(n *node) error { return os.Remove(filepath.Join(n.cfg.Home, "full")) },
			syscall.ENOSPC,
		},
		"read-only": {
			func(n *node) error { return remount(n, syscall.MS_RDONLY) },
			func(n *node) error { return remount(n, 0) },
			syscall.EROFS,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, newBus(t), "srv1")
			if err := syscall.Mount("tmpfs", n.cfg.Home, "tmpfs", 0, "size=256k"); err != nil {
				t.Skipf("FULL DISKS AND READ-ONLY HOMES ARE NOT TESTED: no right to mount a small file system: %v", err)
			}
			t.Cleanup(func() { _ = syscall.Unmount(n.cfg.Home, syscall.MNT_DETACH) })
			n.write("omflow/app.py", "v0")
			n.start()
			n.eventually(func() bool { return n.count("worker-start") == 1 }, "worker runs")
			require.NoError(t, c.spoil(n))
			a := publish(t, n.client, map[string]string{"omflow/app.py": "v1", "omflow/large.py": strings.Repeat("large", 20_000)}, patch.Options{})
			require.Contains(t, n.report(a.ID, patch.StateRetrying).Error, c.says.Error())
			n.state(func(s bus.AgentState) bool {
				return strings.HasPrefix(s.PatchState, "failed: ") && strings.Contains(s.PatchState, c.says.Error())
			})
			require.Zero(t, n.count("worker-drains"), "nothing was stopped")
			require.Equal(t, "v0", n.read("omflow/app.py"))
			entries, err := os.ReadDir(filepath.Join(n.cfg.Home, "omflow"))
			require.NoError(t, err)
			require.Len(t, entries, 1)

			require.NoError(t, c.mend(n))
			n.report(a.ID, patch.StateApplied)
			require.Equal(t, "v1", n.read("omflow/app.py"))
		})
	}
}

func remount(n *node, flags uintptr) error {
	return syscall.Mount("", n.cfg.Home, "", syscall.MS_REMOUNT|flags, "size=256k")
}
