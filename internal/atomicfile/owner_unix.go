//go:build unix

package atomicfile

import (
	"io/fs"
	"os"
	"syscall"
)

// KeepOwner gives a file the owner of another one, as far as we may.
func KeepOwner(path string, of fs.FileInfo) error {
	stat, ok := of.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(path, int(stat.Uid), int(stat.Gid))
}
