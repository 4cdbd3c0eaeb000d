//go:build !windows

package main

import (
	"fmt"
	"syscall"
)

// freeze stops the clock of the process, as a host that is suspended does.
func (p *process) freeze() error {
	pid := p.pid()
	if pid == 0 { // to the kernel, 0 is ourselves
		return fmt.Errorf("%s does not run", p.name)
	}
	return syscall.Kill(pid, syscall.SIGSTOP)
}

// thaw lets it go on. A process that is not frozen does not notice.
func (p *process) thaw() {
	if pid := p.pid(); pid != 0 {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
}
