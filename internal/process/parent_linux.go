package process

import "syscall"

// endWithParent has the kernel signal the child when the thread that forks it ends. Unless the child is killed only, the signal
// is a request, so that a worker finishes its steps even then.
func endWithParent(attr *syscall.SysProcAttr, o Options) {
	attr.Pdeathsig = syscall.SIGTERM
	if o.KillOnly {
		attr.Pdeathsig = syscall.SIGKILL
	}
}
