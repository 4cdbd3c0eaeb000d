package main

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tick is the unit of /proc: 1/100 s on every Linux.
const tick = 10 * time.Millisecond

// usage is what /proc says about one process.
type usage struct {
	parent int
	own    time.Duration // of the process itself
	buried time.Duration // of its children that have ended
}

// usages reads all processes.
func usages() map[int]usage {
	all := map[int]usage{}
	entries, _ := os.ReadDir("/proc") // without /proc everything is 0, which nobody takes for a result
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		data, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err != nil {
			continue // ended meanwhile
		}
		fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:]) // the name before may hold anything
		if len(fields) < 15 {
			continue
		}
		number := func(i int) int { n, _ := strconv.Atoi(string(fields[i])); return n }
		all[pid] = usage{
			parent: number(1),
			own:    time.Duration(number(11)+number(12)) * tick,
			buried: time.Duration(number(13)+number(14)) * tick,
		}
	}
	return all
}

// cpuOf is the processor time of processes, by name, each with all that they have started, the living and the dead. For PostgreSQL that is
// the postmaster, its background processes, and every connection there was.
func cpuOf(list []*process) map[string]time.Duration {
	all := usages()
	children := map[int][]int{}
	for pid, u := range all {
		children[u.parent] = append(children[u.parent], pid)
	}
	var sum func(pid int) time.Duration
	sum = func(pid int) time.Duration {
		total := all[pid].own + all[pid].buried
		for _, child := range children[pid] {
			total += sum(child)
		}
		return total
	}
	times := map[string]time.Duration{}
	for _, p := range list {
		times[p.name] += sum(p.pid())
	}
	return times
}

// cpuAlone is the processor time of one process without what it has started.
func cpuAlone(pid int) time.Duration { return usages()[pid].own }

// cpuSelf is the processor time of this process.
func cpuSelf() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// cpuMachine is the time that all cores together were busy.
func cpuMachine() time.Duration {
	data, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(data), "\n")
	fields := strings.Fields(line)
	var busy time.Duration
	for i, field := range fields {
		if i == 0 || i == 4 || i == 5 || i > 8 { // name, idle, waiting for a disk, guests (counted as user already)
			continue
		}
		n, _ := strconv.Atoi(field)
		busy += time.Duration(n) * tick
	}
	return busy
}

// loadAverage is that of the last minute.
func loadAverage() float64 {
	data, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(data), " ")
	load, _ := strconv.ParseFloat(first, 64)
	return load
}
