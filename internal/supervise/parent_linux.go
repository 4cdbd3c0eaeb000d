package supervise

import "syscall"

// dieWithParent has the kernel ask the child to end when the thread that forks it ends. It is a request, not a kill, so that
// a worker finishes its steps even then.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGTERM }
