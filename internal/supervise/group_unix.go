//go:build !windows

package supervise

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// groupGrace is how long the rest of a group has after its leader has ended.
const groupGrace = 2 * time.Second

// group is the process group of a child; its leader is the child itself.
type group struct{ leader int }

func prepareGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
}

func openGroup(p *os.Process) group { return group{p.Pid} }

// ask requests the leader to end.
func (g group) ask() error {
	if err := syscall.Kill(g.leader, syscall.SIGTERM); !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil // ended already
}

// kill ends the whole group.
func (g group) kill() { _ = syscall.Kill(-g.leader, syscall.SIGKILL) }

// finish ends what is left of the group after its leader. Its number stays taken as long as one member lives.
func (g group) finish() {
	if syscall.Kill(-g.leader, syscall.SIGTERM) != nil {
		return // nothing left
	}
	for end := time.Now().Add(groupGrace); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if syscall.Kill(-g.leader, 0) != nil {
			return
		}
	}
	g.kill()
}
