package runner

import (
	"fmt"
	"os/exec"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// group is a child with everything that it started: a job object. The worker holds its only handle, so the system
// ends the whole job when the worker is gone, however it went.
type group struct{ job windows.Handle }

func setGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP | windows.CREATE_NO_WINDOW}
}

func groupOf(cmd *exec.Cmd) (*group, error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return nil, fmt.Errorf("create job object: %w", err)
	}
	g := &group{job}
	var limits windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	limits.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	if _, err := windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits))); err != nil { //nolint:gosec // how the Windows API takes a struct
		g.close()
		return nil, fmt.Errorf("limit job object: %w", err)
	}
	const access = windows.PROCESS_SET_QUOTA | windows.PROCESS_TERMINATE
	child, err := windows.OpenProcess(access, false, uint32(cmd.Process.Pid))
	if err != nil {
		g.close()
		return nil, fmt.Errorf("open child: %w", err)
	}
	defer func() { _ = windows.CloseHandle(child) }()
	if err := windows.AssignProcessToJobObject(job, child); err != nil {
		g.close()
		return nil, fmt.Errorf("assign child to job object: %w", err)
	}
	return g, nil
}

func (g *group) kill() { _ = windows.TerminateJobObject(g.job, 1) }

func (g *group) close() { _ = windows.CloseHandle(g.job) }
