// Package preflight knows what a host must have for an OMFLOW Server with an agent beside it, and looks whether it does. The agent
// looks when it starts, `omflow-booster doctor` when somebody asks.
package preflight

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v4/disk"
)

// LowSpace is the free space of a disk below which a patch or a log may find no room.
const LowSpace = 256 << 20

// PythonVersion is major, minor and patch.
type PythonVersion [3]int

// What OMFLOW itself asks for.
var oldestPython = PythonVersion{3, 7, 7}

// PythonNeeded says so to people.
const PythonNeeded = "OMFLOW needs 3.7.7 or newer"

func (v PythonVersion) String() string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }

// Enough tells whether OMFLOW runs on it.
func (v PythonVersion) Enough() bool {
	for i, need := range oldestPython {
		if v[i] != need {
			return v[i] > need
		}
	}
	return true
}

// Python asks a Python which one it is, in the directory in which it would be started.
func Python(ctx context.Context, program, dir string) (version PythonVersion, err error) {
	cmd := exec.CommandContext(ctx, program, "--version")
	cmd.Dir = dir
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput() // Python 2 answers on standard error
	if ctx.Err() != nil {
		return version, ctx.Err()
	}
	if err != nil {
		return version, err
	}
	if _, err := fmt.Sscanf(string(out), "Python %d.%d.%d", &version[0], &version[1], &version[2]); err != nil {
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return version, fmt.Errorf("answered %q", line)
	}
	return version, nil
}

// Space is how many bytes are free, and how many there are, on the disk of a directory.
func Space(ctx context.Context, dir string) (free, total uint64, err error) {
	usage, err := disk.UsageWithContext(ctx, dir)
	if err != nil {
		return 0, 0, err
	}
	return usage.Free, usage.Total, nil
}

// Writable tries to make a file in a directory, which is gone when it returns: modes alone do not show a disk that is read-only.
func Writable(dir string) error {
	f, err := os.CreateTemp(dir, ".omflow-booster-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// Port tries to listen on a port, which is free again when it returns.
func Port(ctx context.Context, port int) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", ":"+strconv.Itoa(port))
	if err != nil {
		return err
	}
	return l.Close()
}

// Here tells whether an IP address or host name is this host.
func Here(ctx context.Context, host string) bool {
	if host == "" {
		return false
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, "0")) // only on addresses of one's own
	if err != nil {
		return false
	}
	return l.Close() == nil
}
