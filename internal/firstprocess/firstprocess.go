// Package firstprocess lets the program be the first process of a container. The kernel gives the orphans of all other
// processes to the first one, which has to fetch their exit codes: otherwise each stays in the process table for ever, until no
// process can be started any more.
package firstprocess

import "os"

// pid is the process id of the first process of a container.
const pid = 1

// Run does nothing and returns false unless this process is the first one. Otherwise it runs the program once more, as a child
// that knows nothing of this, passes signals on to it, fetches the exit codes of orphans, and returns the child's exit code
// when that ends: 128 and the signal if it was killed.
//
// A child of its own makes this safe: a program that fetches the exit codes of orphans beside its own children takes those from
// whoever waits for them.
func Run() (code int, was bool) {
	if os.Getpid() != pid {
		return 0, false
	}
	return run(), true
}
