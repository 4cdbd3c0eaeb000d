//go:build unix

package process

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// group is the process group of a child; the child is its leader.
type group struct{ leader int }

func setGroup(cmd *exec.Cmd, o Options) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	endWithParent(cmd.SysProcAttr, o)
}

func openGroup(p *os.Process) (group, error) { return group{p.Pid}, nil }

// ask requests the leader to end. A leader that has ended is no error.
func (g group) ask() error {
	if err := syscall.Kill(g.leader, syscall.SIGTERM); !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// askRest requests the members that are left to end.
func (g group) askRest() { _ = syscall.Kill(-g.leader, syscall.SIGTERM) }

// hasRest tells whether the group has members.
func (g group) hasRest() bool { return syscall.Kill(-g.leader, 0) == nil }

// kill ends all members. A group without members is no error.
func (g group) kill() { _ = syscall.Kill(-g.leader, syscall.SIGKILL) }

func (g group) close() {}
