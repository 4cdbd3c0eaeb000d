package cli

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/work"
)

// graveyard moves steps out of DEAD. Both ways publish on WORK first and remove the dead message second, so that a crash
// between the two leaves the step in both streams, which the next run of the same command sorts out:
//
//	retry: the step itself           purge: the order to any worker to remove the step's row
//	DEAD ──publish──▶ WORK+DEAD ──delete by sequence──▶ WORK
//
// WORK refuses a second message for a step. What is there already decides: the step (a retry has happened) or the order
// to discard it (a purge has).
type graveyard struct {
	js   jetstream.JetStream
	dead jetstream.Stream
	work jetstream.Stream
}

func openGraveyard(ctx context.Context, js jetstream.JetStream) (graveyard, error) {
	dead, err := openStream(ctx, js, bus.StreamDead)
	if err != nil {
		return graveyard{}, err
	}
	waiting, err := openStream(ctx, js, bus.StreamWork)
	if err != nil {
		return graveyard{}, err
	}
	return graveyard{js: js, dead: dead, work: waiting}, nil
}

// What became of a dead step.
const (
	resultRetried = "retried"
	resultPurged  = "purged"
	resultKept    = "kept" // left as it was, for the reason that Detail names
	resultNotDead = "not_dead"
)

// outcome is what became of one dead step.
type outcome struct {
	ID     string `json:"id"`
	Result string `json:"result"`
	Detail string `json:"detail,omitempty"`
}

func (o outcome) done() bool { return o.Result == resultRetried || o.Result == resultPurged }

// verb is graveyard.retry or graveyard.purge. Its error ends the run: the bus failed, or is full.
type verb func(ctx context.Context, m *jetstream.RawStreamMsg) (outcome, error)

// retry queues the step again with all its attempts.
func (g graveyard) retry(ctx context.Context, m *jetstream.RawStreamMsg) (outcome, error) {
	id := bus.SubjectID(m.Subject)
	switch {
	case !hasRow(id):
		return outcome{id, resultKept, "it names no row, so no worker can run it; it can be purged"}, nil
	case len(m.Data) == 0:
		// Its row could not be carried. With the mark of death gone, the reconciler looks at the row again: mended or not.
		return outcome{id, resultRetried, "its row is read again within seconds"}, g.bury(ctx, m)
	}
	found, err := g.publish(ctx, m, false)
	if err != nil {
		return outcome{}, fmt.Errorf("retry %s: %w", id, err)
	}
	if found == foundOrder {
		return outcome{id, resultKept, "a purge of it is under way"}, nil
	}
	detail := ""
	if found == foundStep {
		detail = "was queued already"
	}
	return outcome{id, resultRetried, detail}, g.bury(ctx, m)
}

// purge removes the step and, through a worker, its row: else the reconciler would bring the step back.
func (g graveyard) purge(ctx context.Context, m *jetstream.RawStreamMsg) (outcome, error) {
	id := bus.SubjectID(m.Subject)
	if !hasRow(id) {
		return outcome{id, resultPurged, ""}, g.bury(ctx, m)
	}
	found, err := g.publish(ctx, m, true)
	if err != nil {
		return outcome{}, fmt.Errorf("purge %s: %w", id, err)
	}
	if found == foundStep {
		return outcome{id, resultKept, "it is queued again, so it was left alone"}, nil
	}
	return outcome{id, resultPurged, ""}, g.bury(ctx, m)
}

// found is what WORK held for a step when something was to be published for it.
type found int

const (
	foundNothing found = iota // so it was published
	foundStep
	foundOrder // to discard the step
)

// publish puts the step, or the order to discard it, on WORK and says what is there instead if it cannot.
func (g graveyard) publish(ctx context.Context, m *jetstream.RawStreamMsg, discard bool) (found, error) {
	letter := exhume(m, discard)
	call, cancel := ask(ctx)
	defer cancel()
	_, err := g.js.PublishMsg(call, letter)
	switch {
	case err == nil:
		return foundNothing, nil
	case bus.IsFull(err):
		return foundNothing, fmt.Errorf("the Booster has no room for more work; wait until some is done, then run this again: %w", err)
	case !bus.IsQueued(err):
		return foundNothing, fmt.Errorf("publish on %s: %w", letter.Subject, err)
	}
	there, err := lastMessage(ctx, g.work, letter.Subject)
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

// exhume builds the message for WORK. The identity is new, so that the Booster does not take it for a repetition of the
// first life, and the same for every run of the command, so that a repetition within the Booster's window does no harm.
func exhume(m *jetstream.RawStreamMsg, discard bool) *nats.Msg {
	kind, flow, id := subjectTokens(m.Subject)
	out := nats.NewMsg(bus.WorkSubject(kind, flow, id))
	out.Data = m.Data
	for _, name := range []string{bus.HeaderID, bus.HeaderKey, bus.HeaderKind, bus.HeaderDatabase, bus.HeaderDigest} {
		if value := m.Header.Get(name); value != "" {
			out.Header.Set(name, value)
		}
	}
	action := "-retry-"
	if discard {
		action = "-discard-"
		out.Header.Set(bus.HeaderDiscard, "true")
	} else {
		out.Header.Set(bus.HeaderCheck, "true") // it may have been done before it was declared dead
	}
	if step, err := work.ParseID(id); err == nil {
		out.Header.Set(bus.HeaderMsgID, step.MsgID()+action+strconv.FormatUint(m.Sequence, 10))
	}
	return out
}

// hasRow tells a step from something that a stranger published on WORK, and that no worker could read.
func hasRow(id string) bool {
	_, err := work.ParseID(id)
	return err == nil
}

// bury removes the dead message: this very one, for a step that has died again meanwhile has a newer one.
func (g graveyard) bury(ctx context.Context, m *jetstream.RawStreamMsg) error {
	call, cancel := ask(ctx)
	defer cancel()
	err := g.dead.DeleteMsg(call, m.Sequence)
	if err == nil {
		return nil
	}
	if _, gone := g.dead.GetMsg(call, m.Sequence); errors.Is(gone, jetstream.ErrMsgNotFound) {
		return nil // replaced by a newer death, or removed by another operator
	}
	return fmt.Errorf("remove %s from %s: %w; run this again", m.Subject, bus.StreamDead, err)
}

// search is which dead steps a command is about: those that are named, or those that selection chooses.
type search struct {
	ids    []work.ID
	chosen selection
}

// run applies do to every step of the search, one by one, and hands out each outcome. It ends with the first error.
func (g graveyard) run(ctx context.Context, s search, do verb) iter.Seq2[outcome, error] {
	return func(yield func(outcome, error) bool) {
		for m, err := range g.find(ctx, s) {
			var missing notDead
			if errors.As(err, &missing) {
				if !yield(outcome{missing.id.String(), resultNotDead, ""}, nil) {
					return
				}
				continue
			}
			if err != nil {
				yield(outcome{}, err)
				return
			}
			o, err := do(ctx, m)
			if !yield(o, err) || err != nil {
				return
			}
		}
	}
}

// notDead is the error for an id that DEAD does not hold.
type notDead struct{ id work.ID }

func (n notDead) Error() string { return "step " + n.id.String() + " is not dead" }

func (g graveyard) find(ctx context.Context, s search) iter.Seq2[*jetstream.RawStreamMsg, error] {
	if len(s.ids) == 0 {
		return messages(ctx, g.dead, s.chosen.filter(bus.DeadSubject))
	}
	return func(yield func(*jetstream.RawStreamMsg, error) bool) {
		for _, id := range s.ids {
			m, err := findStep(ctx, g.dead, bus.DeadSubject, id)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				err = notDead{id}
			}
			if !yield(m, err) {
				return
			}
		}
	}
}
