package tree

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// limit names the setting of the kernel that is in the way: its own words are "no space left on device" and "too many open files".
func limit(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return tooFew("fs.inotify.max_user_watches", "directories that one user may watch", err)
	case errors.Is(err, syscall.EMFILE):
		return tooFew("fs.inotify.max_user_instances", "programs of one user that may watch", err)
	}
	return err
}

func tooFew(setting, what string, err error) error {
	now, _ := os.ReadFile("/proc/sys/" + strings.ReplaceAll(setting, ".", "/"))
	return fmt.Errorf("the kernel's %s (%s) is %s; raise it with sysctl: %w", setting, what, strings.TrimSpace(string(now)), err)
}
