package cli

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/text"
)

func (a *App) deadCommand() *cobra.Command {
	return group("dead", "Look at steps that were given up on, retry or purge them",
		"A step that failed too often, or that cannot succeed, goes to the stream DEAD with the reason, and its row stays in the\n"+
			"database. Retry gives it all its attempts again; purge removes it and its row for good.",
		"  omflow-booster dead ls\n"+
			"  omflow-booster dead retry q1024\n"+
			"  omflow-booster dead purge --flow 4f1c… --yes",
		a.deadListCommand(), a.deadShowCommand(), a.deadRetryCommand(), a.deadPurgeCommand())
}

func (a *App) deadListCommand() *cobra.Command {
	return listCommand(a, &cobra.Command{
		Short:   "List steps that were given up on, oldest first",
		Example: "  omflow-booster dead ls --kind FormFlow --limit 100",
	}, stepLister[deadStep]{
		stream: bus.StreamDead, subject: bus.DeadSubject, describe: describeDead, none: "No dead step.",
		columns: []string{"ID", "KIND", "FLOW", "KEY", "ATTEMPTS", "DIED", "WORKER", "REASON", "ERROR"},
		row: func(d deadStep, now time.Time) []any {
			return []any{
				d.ID, d.Kind, d.Flow, d.Ticket, d.Attempts, text.Age(now.Sub(d.At)) + " ago", d.Worker, d.Reason,
				text.Shorten(d.Error, errorWidth),
			}
		},
	})
}

func (a *App) deadShowCommand() *cobra.Command {
	return a.showCommand("Print a step that was given up on, headers and body",
		"  omflow-booster dead show q1024", bus.StreamDead, bus.DeadSubject)
}

// deadStep is a step that was given up on, for lists.
type deadStep struct {
	bus.StepInfo
	Attempts string `json:"attempts"`
	Reason   string `json:"reason"`
	Error    string `json:"error"`
	Worker   string `json:"worker"`
	Empty    bool   `json:"empty"` // the item could not be carried and was not kept; a retry reads its row again
}

func describeDead(m *jetstream.RawStreamMsg) deadStep {
	d := deadStep{
		StepInfo: bus.DescribeStep(m),
		Attempts: m.Header.Get(bus.HeaderAttempt),
		Reason:   m.Header.Get(bus.HeaderDeadReason),
		Error:    m.Header.Get(bus.HeaderDeadError),
		Worker:   m.Header.Get(bus.HeaderDeadWorker),
		Empty:    len(m.Data) == 0,
	}
	if at, err := time.Parse(time.RFC3339, m.Header.Get(bus.HeaderDeadAt)); err == nil {
		d.At = at.UTC() // the worker's word; when the message was stored is as good without it
	}
	return d
}

// errorWidth keeps a line of the list on a screen; `dead show` has the whole error.
const errorWidth = 60
