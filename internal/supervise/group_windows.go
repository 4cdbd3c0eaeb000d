package supervise

import (
	"os"
	"os/exec"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// group is the job object of a child. Its only handle is ours, and the system ends all processes of the job with the last
// handle: a child does not outlive this process, however that ends.
type group struct {
	pid   int
	job   windows.Handle // 0 if it could not be made
	close func()
}

func prepareGroup(cmd *exec.Cmd) {
	// A group of its own, so that the request to end reaches the child and not us.
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP}
}

func openGroup(p *os.Process) group {
	g := group{pid: p.Pid, close: func() {}}
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return g
	}
	limits := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{
		BasicLimitInformation: windows.JOBOBJECT_BASIC_LIMIT_INFORMATION{LimitFlags: windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE},
	}
	_, err = windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits)))
	if err == nil {
		err = p.WithHandle(func(handle uintptr) { err = windows.AssignProcessToJobObject(job, windows.Handle(handle)) })
	}
	if err != nil {
		_ = windows.CloseHandle(job)
		return g
	}
	g.job = job
	g.close = sync.OnceFunc(func() { _ = windows.CloseHandle(job) })
	return g
}

// ask requests the leader to end. It fails without a console, as in a service; then the job is killed at once.
func (g group) ask() error {
	return windows.GenerateConsoleCtrlEvent(windows.CTRL_BREAK_EVENT, uint32(g.pid))
}

// kill ends all processes of the job.
func (g group) kill() {
	if g.job != 0 {
		_ = windows.TerminateJobObject(g.job, 1)
		return
	}
	if p, err := os.FindProcess(g.pid); err == nil {
		_ = p.Kill()
	}
}

// finish ends what is left of the job after its leader.
func (g group) finish() { g.close() }
