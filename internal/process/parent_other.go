//go:build unix && !linux

package process

import "syscall"

// endWithParent is not possible here; the supported systems are Linux and Windows.
func endWithParent(*syscall.SysProcAttr, Options) {}
