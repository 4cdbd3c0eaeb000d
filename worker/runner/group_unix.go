//go:build unix

package runner

import (
	"os/exec"
	"syscall"
)

// group is a child with everything that it started: a process group.
type group struct{ pid int }

// setGroup makes cmd start in a group of its own, so that it ends with what it started, and so that a Ctrl-C meant
// for the worker does not reach the steps that the worker still wants to finish.
func setGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
}

func groupOf(cmd *exec.Cmd) (*group, error) { return &group{cmd.Process.Pid}, nil }

// kill also reaches members that are stopped (SIGSTOP). A group that is gone already is no error.
func (g *group) kill() { _ = syscall.Kill(-g.pid, syscall.SIGKILL) }

func (g *group) close() {}
