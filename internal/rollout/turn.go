package rollout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// ErrAborted is returned when an operator has aborted the rollout: the patch is not to be applied any more.
var ErrAborted = errors.New("the rollout was aborted")

// ErrNoTurn is returned when a node may not begin, or not go on.
var ErrNoTurn = errors.New("it is not this server's turn")

// Turn is a node's place in the rollout of one patch.
type Turn struct {
	JS    jetstream.JetStream
	Patch string
	Node  string
	Every time.Duration // between two looks that nobody asked for
}

// Wait returns when the node may apply the patch. Wait calls say with the reason whenever that changes. It fails with
// ErrAborted, or when ctx ends. A Booster that does not answer is waited for.
func (t Turn) Wait(ctx context.Context, say func(why string)) error {
	return t.await(ctx, say, func(p Plan, _ bool, _ time.Duration) bool { return p.may(t.Node) })
}

// WaitToFetch returns when the node may fetch the artifact; otherwise it is as Wait. Where no Booster paces that, everybody may.
func (t Turn) WaitToFetch(ctx context.Context, say func(why string)) error {
	return t.await(ctx, say, func(p Plan, there bool, waited time.Duration) bool {
		return p.may(t.Node) || slices.Contains(p.Fetch, t.Node) || waited >= t.Every && (!there || !p.Paced)
	})
}

// lookMax is how much longer than Every a node waits between two looks that nobody asked for. A plan is as long as its fleet is
// large, and all of the fleet wait for it.
const lookMax = 6

func (t Turn) await(ctx context.Context, say func(why string), may func(p Plan, there bool, waited time.Duration) bool) error {
	notify, stop := bus.Notify(t.JS.Conn(), bus.TurnSubject(t.Node), bus.OrderSubject(t.Patch))
	defer stop()
	began, pause := time.Now(), t.Every
	for {
		p, there, err := Read(ctx, t.JS, t.Patch)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			say("no answer about the rollout: " + err.Error())
		case p.State == StateAborted:
			return p.aborted()
		case may(p, there, time.Since(began)):
			return nil
		default:
			say(p.why())
		}
		bus.Wait(ctx, notify, pause)
		if there {
			pause = min(2*pause, lookMax*t.Every)
		}
	}
}

// why says what a node waits for.
func (p Plan) why() string {
	switch p.State {
	case "":
		return "the active Booster to notice the patch"
	case StateRunning:
		if p.Held != "" {
			return "its turn: " + p.Held
		}
		return "its turn"
	default:
		return fmt.Sprintf("rollout is %s: %s", p.State, p.Reason)
	}
}

// Check returns nil while the node may go on; a node asks right before it stops its server.
func (t Turn) Check(ctx context.Context) error {
	p, _, err := Read(ctx, t.JS, t.Patch)
	if err != nil {
		return err
	}
	if !p.may(t.Node) {
		return fmt.Errorf("%w any more: rollout is %s", ErrNoTurn, p.State)
	}
	return nil
}

// Aborted returns an error that matches ErrAborted if the patch is not to be applied any more.
func (t Turn) Aborted(ctx context.Context) error {
	p, _, err := Read(ctx, t.JS, t.Patch)
	if err == nil && p.State == StateAborted {
		err = p.aborted()
	}
	return err
}

func (p Plan) aborted() error { return fmt.Errorf("%w by %s: %s", ErrAborted, p.By, p.Reason) }

// may tells whether a node may begin.
func (p Plan) may(node string) bool { return p.State == StateRunning && p.Open(node) }
