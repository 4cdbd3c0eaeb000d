//go:build !windows

package patch

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// keepOwner gives made to the owner of the file that it replaces, or else of the directory around it: an agent that runs as
// root must not take a file away from the account of the OMFLOW Server, which writes some of them itself.
func keepOwner(home *os.Root, made, replaces string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := home.Lstat(replaces)
	if made == replaces || errors.Is(err, fs.ErrNotExist) {
		info, err = home.Stat(path.Dir(replaces))
	}
	if err != nil {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		return home.Lchown(made, int(owner.Uid), int(owner.Gid))
	}
	return nil
}

func samePerm(have fs.FileMode, want Mode) bool { return have.Perm() == want.perm() }

// syncDir makes renames and deletions in a directory survive a power cut.
func syncDir(home *os.Root, dir string) error {
	d, err := home.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// modeOf is the permission bits of a file that goes into a patch.
func modeOf(info fs.FileInfo) Mode { return Mode(info.Mode().Perm()) }
