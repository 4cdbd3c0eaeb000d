package process

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// group is the job object of a child. This process holds its only handle, and the system ends all processes of the job with the
// last handle.
type group struct {
	leader int
	job    windows.Handle
}

// setGroup gives the child a console group of its own, so that a request to end reaches the child and not us.
func setGroup(cmd *exec.Cmd, o Options) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP}
	if o.KillOnly {
		cmd.SysProcAttr.CreationFlags |= windows.CREATE_NO_WINDOW
	}
}

func openGroup(p *os.Process) (group, error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return group{}, fmt.Errorf("create job object: %w", err)
	}
	g := group{leader: p.Pid, job: job}
	var limits windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	limits.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	if _, err := windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits))); err != nil { //nolint:gosec // how the Windows API takes a struct
		g.close()
		return group{}, fmt.Errorf("limit job object: %w", err)
	}
	var assignErr error
	err = p.WithHandle(func(child uintptr) { assignErr = windows.AssignProcessToJobObject(job, windows.Handle(child)) })
	if err == nil {
		err = assignErr
	}
	if err != nil {
		g.close()
		return group{}, fmt.Errorf("assign child to job object: %w", err)
	}
	return g, nil
}

// ask requests the leader to end. It fails without a console.
func (g group) ask() error {
	return windows.GenerateConsoleCtrlEvent(windows.CTRL_BREAK_EVENT, uint32(g.leader))
}

// askRest does nothing: only a leader can be asked.
func (g group) askRest() {}

// hasRest returns false, so that what is left of the job ends at once.
func (g group) hasRest() bool { return false }

// kill ends all processes of the job.
func (g group) kill() { _ = windows.TerminateJobObject(g.job, 1) }

func (g group) close() { _ = windows.CloseHandle(g.job) }
