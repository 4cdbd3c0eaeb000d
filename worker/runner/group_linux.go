package runner

import "syscall"

// dieWithParent lets the kernel kill the child when the worker is gone, kill -9 included, even if the child is frozen
// or does not read its standard input. The kernel watches the thread that forked, not the process: see process.own.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
