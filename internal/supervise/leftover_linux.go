package supervise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/logging"
)

// EndLeftovers ends what an earlier life of the service has left behind, and returns when it is gone: processes that carry
// the owner's mark. They are asked first, parents before children so that a worker can let its runners finish, and killed
// after timeout. Call it before the first child is started, and only while no other process can be that owner.
func EndLeftovers(ctx context.Context, owner string, timeout time.Duration, log zerolog.Logger) error {
	_, err := end(ctx, owner, "", timeout, log)
	return err
}

// endStrays ends what a child has left behind outside of its group, after the child itself has ended: a process that moved to a
// session of its own (a server that became a daemon, a command that a shell started with setsid) would answer in the name of
// the child's successor. It returns how many there were.
func endStrays(owner, child string, log zerolog.Logger) int {
	if owner == "" {
		return 0
	}
	n, err := end(context.Background(), owner, child, strayGrace, log)
	if err != nil {
		log.Error().Err(err).Msg("the child has left a process behind")
	}
	return n
}

// end ends the processes with a mark and returns how many it had to ask.
func end(ctx context.Context, owner, child string, timeout time.Duration, log zerolog.Logger) (int, error) {
	asked := make(map[int]bool)
	kill := time.Now().Add(timeout)
	giveUp := kill.Add(killWait)
	for {
		left, err := find(owner, child)
		if err != nil {
			return len(asked), fmt.Errorf("look for processes of an earlier run: %w", err)
		}
		if len(left) == 0 {
			return len(asked), nil
		}
		now := time.Now()
		if now.After(giveUp) {
			return len(asked), fmt.Errorf("process %d of an earlier run does not end, even when it is killed; end it by hand", left[0].pid)
		}
		for _, p := range left {
			hasParent := slices.ContainsFunc(left, func(other leftover) bool { return other.pid == p.parent })
			switch {
			case now.After(kill):
				_ = syscall.Kill(p.pid, syscall.SIGKILL)
			case !hasParent && !asked[p.pid]:
				asked[p.pid] = true
				log.Warn().Int(logging.PID, p.pid).Msg("ending a process that an earlier run left behind")
				_ = syscall.Kill(p.pid, syscall.SIGTERM)
			}
		}
		select {
		case <-ctx.Done():
			return len(asked), ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// strayGrace is how long a process that left the group of its child has to end before it is killed.
const strayGrace = 5 * time.Second

type leftover struct{ pid, parent int }

// execLooks is how often find looks again at processes that are between two programs, with execPause between two looks.
const (
	execLooks = 5
	execPause = 20 * time.Millisecond
)

// find lists the living processes with a mark, ourselves excepted. A process in the middle of an exec shows no environment for a moment,
// so find looks again while there is one without any.
func find(owner, child string) ([]leftover, error) {
	for look := 1; ; look++ {
		found, unsure, err := lookOnce(owner, child)
		if err != nil || len(found) > 0 || !unsure || look == execLooks {
			return found, err
		}
		time.Sleep(execPause)
	}
}

// lookOnce is one look of find. unsure tells that a process showed no environment.
func lookOnce(owner, child string) (found []leftover, unsure bool, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, false, err
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, err := os.ReadFile("/proc/" + entry.Name() + "/environ")
		if err != nil { // ended meanwhile, or of another user
			continue
		}
		ours := belongs(markOf(env), owner, child)
		if !ours && len(env) > 0 {
			continue
		}
		parent, err := parentOf(pid)
		switch {
		case err != nil:
		case ours:
			found = append(found, leftover{pid, parent})
		case pid != kernelThreads && parent != kernelThreads:
			unsure = true
		}
	}
	return found, unsure, nil
}

// markOf is the mark in the environment of a process, whose variables end in a zero byte each; empty without one.
func markOf(env []byte) string {
	for variable := range bytes.SplitSeq(env, []byte{0}) {
		if mark, ok := bytes.CutPrefix(variable, []byte(markVariable+"=")); ok {
			return string(mark)
		}
	}
	return ""
}

// kernelThreads is the parent of all threads of the kernel, which have no environment.
const kernelThreads = 2

var errEnded = errors.New("process has ended")

// parentOf reads the fourth field of /proc/<pid>/stat; the second, the name, may contain anything but ends at the last ")".
func parentOf(pid int) (int, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	text := string(stat)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 2 || fields[0] == "Z" || fields[0] == "X" {
		return 0, errEnded
	}
	return strconv.Atoi(fields[1])
}
