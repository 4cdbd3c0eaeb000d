package patch

import (
	"io/fs"
	"os"
)

// keepOwner has nothing to do: a file inherits the rights of its directory.
func keepOwner(*os.Root, string, string) error { return nil }

// samePerm is always true: Windows keeps no more than a read-only bit.
func samePerm(fs.FileMode, Mode) bool { return true }

// modeOf is what a file of a Windows server becomes elsewhere.
func modeOf(fs.FileInfo) Mode { return 0o644 }

// syncDir has nothing to do: Windows cannot sync a directory, NTFS journals it.
func syncDir(*os.Root, string) error { return nil }
