//go:build unix && !linux

package runner

import "syscall"

// dieWithParent has no such service from the kernel here: the runner ends because its standard input does.
func dieWithParent(*syscall.SysProcAttr) {}
