//go:build !linux && !windows

package supervise

import "syscall"

// dieWithParent is not possible here; the supported systems are Linux and Windows.
func dieWithParent(*syscall.SysProcAttr) {}
