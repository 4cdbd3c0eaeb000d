package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// cgroup limits the processor time of the processes in it: it stands for a host.
type cgroup struct{ dir string }

// period is how often the kernel hands out processor time: short, so that a limited host is slow rather than absent.
const period = 20 * time.Millisecond

// newCgroup makes a group that may use so many percent of one core.
func newCgroup(name string, percent int) (*cgroup, error) {
	quota := period.Microseconds() * int64(percent) / 100
	name = fmt.Sprintf("omflow-bench-%d-%s", os.Getpid(), name)
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil { // version 2
		// Already on where systemd runs; else the root may do it.
		_ = os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+cpu"), 0)
		return makeCgroup(filepath.Join("/sys/fs/cgroup", name), map[string]string{
			"cpu.max": fmt.Sprintf("%d %d", quota, period.Microseconds()),
		})
	}
	for _, root := range []string{"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"} { // version 1
		if _, err := os.Stat(filepath.Join(root, "cpu.cfs_period_us")); err == nil {
			return makeCgroup(filepath.Join(root, name), map[string]string{
				"cpu.cfs_period_us": strconv.FormatInt(period.Microseconds(), 10), "cpu.cfs_quota_us": strconv.FormatInt(quota, 10),
			})
		}
	}
	return nil, errors.New("no cgroup controller for processor time is mounted below /sys/fs/cgroup")
}

func makeCgroup(dir string, settings map[string]string) (*cgroup, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("limit processor time (this needs root): %w", err)
	}
	g := &cgroup{dir}
	for _, name := range []string{"cpu.max", "cpu.cfs_period_us", "cpu.cfs_quota_us"} { // the period first
		value, ok := settings[name]
		if !ok {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0); err != nil {
			return nil, errors.Join(fmt.Errorf("limit processor time: %w", err), g.remove())
		}
	}
	return g, nil
}

// within is a command that enters the group before it runs argv.
func (g *cgroup) within(argv []string) []string {
	return append([]string{"sh", "-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(g.dir, "cgroup.procs")}, argv...)
}

// add moves a process into the group, and with it what it starts from now on.
func (g *cgroup) add(pid int) error {
	return os.WriteFile(filepath.Join(g.dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
}

// remove removes the group. Its processes have ended.
func (g *cgroup) remove() error { return os.Remove(g.dir) }
