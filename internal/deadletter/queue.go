// Package deadletter is the life of dead steps on the stream DEAD: a worker writes a step there when it gives up on it, the
// reconciler asks which rows are dead, and an operator has dead steps retried or purged.
package deadletter

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/work"
)

// callTimeout bounds one publish or delete.
const callTimeout = 5 * time.Second

// Queue moves steps out of DEAD. Retry and Purge publish on WORK first and remove the dead message second. A crash between the two
// leaves the step in both streams, and the next run of the same command sorts that out:
//
//	retry: the step itself           purge: the order to any worker to remove the step's row
//	DEAD ──publish──▶ WORK+DEAD ──delete by sequence──▶ WORK
//
// WORK refuses a second message for a step. The message that is there already decides: the step (a retry has happened) or the order
// to discard it (a purge has).
type Queue struct {
	js   jetstream.JetStream
	dead jetstream.Stream
	work jetstream.Stream
}

// Open looks up DEAD and WORK.
func Open(ctx context.Context, js jetstream.JetStream) (*Queue, error) {
	dead, err := bus.OpenStream(ctx, js, bus.StreamDead)
	if err != nil {
		return nil, err
	}
	waiting, err := bus.OpenStream(ctx, js, bus.StreamWork)
	if err != nil {
		return nil, err
	}
	return &Queue{js: js, dead: dead, work: waiting}, nil
}

// What became of a dead step.
const (
	Retried = "retried"
	Purged  = "purged"
	Kept    = "kept" // left as it was, for the reason that Detail names
	NotDead = "not_dead"
)

// Outcome is what became of one dead step.
type Outcome struct {
	ID     string `json:"id"`
	Result string `json:"result"`
	Detail string `json:"detail,omitempty"`
}

// Done tells whether the step was retried or purged.
func (o Outcome) Done() bool { return o.Result == Retried || o.Result == Purged }

// Action is Queue.Retry or Queue.Purge. Its error ends the run: the bus failed, or is full.
type Action func(ctx context.Context, m *jetstream.RawStreamMsg) (Outcome, error)

// Retry queues the step again with all its attempts.
func (q *Queue) Retry(ctx context.Context, m *jetstream.RawStreamMsg) (Outcome, error) {
	id := bus.SubjectID(m.Subject)
	switch {
	case !hasRow(id):
		return Outcome{id, Kept, "it names no row, so no worker can run it; it can be purged"}, nil
	case len(m.Data) == 0:
		// Its row could not be carried. Once it is gone from DEAD, the reconciler looks at the row again, mended or not.
		return Outcome{id, Retried, "its row is read again within seconds"}, q.removeDead(ctx, m)
	}
	found, err := q.requeue(ctx, m, false)
	if err != nil {
		return Outcome{}, fmt.Errorf("retry %s: %w", id, err)
	}
	if found == foundOrder {
		return Outcome{id, Kept, "a purge of it is under way"}, nil
	}
	detail := ""
	if found == foundStep {
		detail = "was queued already"
	}
	return Outcome{id, Retried, detail}, q.removeDead(ctx, m)
}

// Purge removes the step and, through a worker, its row: else the reconciler would bring the step back.
func (q *Queue) Purge(ctx context.Context, m *jetstream.RawStreamMsg) (Outcome, error) {
	id := bus.SubjectID(m.Subject)
	if !hasRow(id) {
		return Outcome{id, Purged, ""}, q.removeDead(ctx, m)
	}
	found, err := q.requeue(ctx, m, true)
	if err != nil {
		return Outcome{}, fmt.Errorf("purge %s: %w", id, err)
	}
	if found == foundStep {
		return Outcome{id, Kept, "it is queued again, so it was left alone"}, nil
	}
	return Outcome{id, Purged, ""}, q.removeDead(ctx, m)
}

// found is what WORK held for a step when something was to be published for it.
type found int

const (
	foundNothing found = iota // so it was published
	foundStep
	foundOrder // to discard the step
)

// requeue puts the step, or the order to discard it, on WORK and says what is there instead if it cannot.
func (q *Queue) requeue(ctx context.Context, m *jetstream.RawStreamMsg, discard bool) (found, error) {
	msg := bus.RetryMessage(m)
	if discard {
		msg = bus.DiscardMessage(m)
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := q.js.PublishMsg(call, msg)
	switch {
	case err == nil:
		return foundNothing, nil
	case bus.IsFull(err):
		return foundNothing, fmt.Errorf("the Booster has no room for more work; wait until some is done, then run this again: %w", err)
	case !bus.IsQueued(err):
		return foundNothing, fmt.Errorf("publish on %s: %w", msg.Subject, err)
	}
	there, err := bus.LastMessage(ctx, q.work, msg.Subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return foundNothing, errors.New("it left the queue this very moment; run this again")
	}
	if err != nil {
		return foundNothing, err
	}
	if there.Header.Get(bus.HeaderDiscard) == "true" {
		return foundOrder, nil
	}
	return foundStep, nil
}

// hasRow tells a step from a message that a stranger published on WORK, and that no worker could read.
func hasRow(id string) bool {
	_, err := work.ParseID(id)
	return err == nil
}

// removeDead removes the dead message: this very one, for a step that has died again meanwhile has a newer one.
func (q *Queue) removeDead(ctx context.Context, m *jetstream.RawStreamMsg) error {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := q.dead.DeleteMsg(call, m.Sequence)
	if err == nil {
		return nil
	}
	if _, gone := q.dead.GetMsg(call, m.Sequence); errors.Is(gone, jetstream.ErrMsgNotFound) {
		return nil // replaced by a newer death, or removed by another operator
	}
	return fmt.Errorf("remove %s from %s: %w; run this again", m.Subject, bus.StreamDead, err)
}

// Search says which dead steps a command is about: those that IDs names, or those that Chosen selects.
type Search struct {
	IDs    []work.ID
	Chosen bus.Selection
}

// Run applies do to every step of the search, one by one, and yields each outcome. It ends with the first error.
func (q *Queue) Run(ctx context.Context, s Search, do Action) iter.Seq2[Outcome, error] {
	return func(yield func(Outcome, error) bool) {
		for m, err := range q.find(ctx, s) {
			var missing notDead
			if errors.As(err, &missing) {
				if !yield(Outcome{missing.id.String(), NotDead, ""}, nil) {
					return
				}
				continue
			}
			if err != nil {
				yield(Outcome{}, err)
				return
			}
			o, err := do(ctx, m)
			if !yield(o, err) || err != nil {
				return
			}
		}
	}
}

// Moved has the reconciler look at the rows of steps that left DEAD: what it believes of them is no longer so.
func (q *Queue) Moved(ctx context.Context, ids []string) error {
	_, err := bus.AskProof(context.WithoutCancel(ctx), q.js.Conn(), ids)
	return err
}

// notDead is the error for an id that DEAD does not hold.
type notDead struct{ id work.ID }

func (n notDead) Error() string { return "step " + n.id.String() + " is not dead" }

func (q *Queue) find(ctx context.Context, s Search) iter.Seq2[*jetstream.RawStreamMsg, error] {
	if len(s.IDs) == 0 {
		return bus.Messages(ctx, q.dead, bus.Subject(bus.DeadSubject).Filter(s.Chosen))
	}
	return func(yield func(*jetstream.RawStreamMsg, error) bool) {
		for _, id := range s.IDs {
			m, err := bus.FindStep(ctx, q.dead, bus.DeadSubject, id)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				err = notDead{id}
			}
			if !yield(m, err) {
				return
			}
		}
	}
}
