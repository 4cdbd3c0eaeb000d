package tree

import (
	"io/fs"
	"syscall"
	"time"
)

// identity is what a file has beside its size and time: a number of its own, and when anything about it was changed last, which
// no program can set.
func identity(info fs.FileInfo) (inode uint64, altered time.Time) {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Ino, time.Unix(s.Ctim.Unix())
	}
	return 0, info.ModTime()
}
