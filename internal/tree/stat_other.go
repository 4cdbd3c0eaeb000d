//go:build !linux

package tree

import (
	"io/fs"
	"time"
)

// identity knows no more here than when the file was written last.
func identity(info fs.FileInfo) (inode uint64, altered time.Time) { return 0, info.ModTime() }
