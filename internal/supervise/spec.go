// Package supervise keeps a child process running: it starts it, waits until it is ready, starts it again with a growing pause
// when it ends by itself, and ends it together with everything that it started.
//
//	stopped ──Start──▶ starting ──ready──▶ running
//	   ▲                  │ ended by itself   │
//	   │                  ▼                   ▼
//	   └──────Stop───── failing ──pause──▶ starting
//
// A child lives in a process group (on Windows: in a job) of its own, and does not outlive this process: the kernel ends it.
// What leaves the group is found by a mark in its environment and ended with the child; what survives the service itself,
// EndLeftovers finds when the service starts again.
package supervise

import (
	"context"
	"io"
	"time"
)

// State is what a child is doing, in the words of bus.AgentState.
type State string

// States of a child.
const (
	Stopped  State = "stopped"
	Starting State = "starting" // the process is there and not ready yet
	Running  State = "running"
	Failing  State = "failing" // ended by itself, or could not be started; waits for the next try
)

// Spec says what to run and how.
type Spec struct {
	Name    string   // in logs: server, worker
	Command []string // program and arguments
	Dir     string   // working directory
	Env     []string // the whole environment; Owner adds to it
	Owner   string   // identifies the service beyond its own life, and no other; empty: what leaves the child's group is not found

	Output io.Writer // gets what the child writes, as it is, beside our log; nil: nobody. It must not block: the child would, too

	// Ready returns nil once the child can do its work; it is asked every ReadyEvery. If it is nil, a child that has lived
	// for ReadyEvery counts as ready. It is asked before each start, too: a child is not started while another program answers in its place.
	Ready      func(ctx context.Context) error
	ReadyEvery time.Duration

	StopTimeout time.Duration // from the request to end until the whole group is killed
	RestartMin  time.Duration // pause before the first restart; doubles each time
	RestartMax  time.Duration // longest pause; a child that ran for so long starts over with RestartMin

	heard func(line string) // gets each line of output, too; may be nil
}

// Status is a snapshot of a child.
type Status struct {
	State    State
	PID      int    // 0 when there is no process
	Restarts int    // starts after it had ended by itself
	Error    string // how it last ended by itself; stays until the next time
}
