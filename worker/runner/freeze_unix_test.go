//go:build unix

package runner

import "syscall"

// freeze stops the whole process, as a suspended virtual machine or a debugger would.
func freeze() { _ = syscall.Kill(syscall.Getpid(), syscall.SIGSTOP) }
