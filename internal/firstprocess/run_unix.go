//go:build unix

package firstprocess

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const exitFailed = 1

func run() (code int) {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	program, err := os.Executable()
	if err != nil {
		return failed(err)
	}
	attributes := &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}}
	child, err := os.StartProcess(program, os.Args, attributes) //nolint:gosec // our own program, with our own arguments
	if err != nil {
		return failed(err)
	}
	for s := range signals {
		switch s {
		case syscall.SIGCHLD:
			if code, ended := reap(child.Pid); ended {
				return code
			}
		case syscall.SIGURG: // Go's own
		default:
			_ = child.Signal(s) // one that has ended is fetched next
		}
	}
	return exitFailed // not reached: nobody closes signals
}

// reap fetches all exit codes that there are, and tells that of the child.
func reap(child int) (code int, ended bool) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil || pid == 0:
			return code, ended
		case pid != child:
		case status.Signaled():
			code, ended = 128+int(status.Signal()), true
		case status.Exited():
			code, ended = status.ExitStatus(), true
		}
	}
}

func failed(err error) int {
	fmt.Fprintln(os.Stderr, "omflow-booster: start as the first process of a container: "+err.Error())
	return exitFailed
}
