package rollout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// What operators order. by is who; reason is shown to those who wait. A rollout that was aborted stays so.

// Resume lets a rollout go on that was paused or halted. What has failed until now does not halt it again. One that nobody has
// approved yet goes on waiting for that.
func Resume(ctx context.Context, js jetstream.JetStream, patch, by string) error {
	return order(ctx, js, patch, decision{by: by, state: StateRunning}, func(p *Plan) error {
		switch p.State {
		case StateApproval:
			return fmt.Errorf("the rollout of %s waits for approval: omflow-booster patch approve %s", patch, patch)
		case StateRunning, "":
			return fmt.Errorf("the rollout of %s is not paused", patch)
		}
		p.Tolerated = len(p.failures())
		return nil
	})
}

// Approve lets a rollout begin that waits for approval. One that is paused stays so.
func Approve(ctx context.Context, js jetstream.JetStream, patch, by string) error {
	return change(ctx, js, patch, func(p *Plan) error {
		switch {
		case p.State == StateAborted:
			return fmt.Errorf("the rollout of %s was aborted by %s; publish the files again", patch, p.By)
		case !p.Approval:
			return fmt.Errorf("the rollout of %s needs no approval", patch)
		case p.ApprovedBy != "":
			return fmt.Errorf("the rollout of %s was approved by %s at %s", patch, p.ApprovedBy, p.ApprovedAt.Format(time.RFC3339))
		}
		now := time.Now()
		p.ApprovedBy, p.ApprovedAt = cmp.Or(by, "somebody"), now
		if p.State == StateApproval {
			p.State, p.Reason, p.By, p.Changed = StateRunning, "", by, now
		}
		return nil
	})
}

// Pause stops giving turns. A server that has its turn finishes.
func Pause(ctx context.Context, js jetstream.JetStream, patch, by, reason string) error {
	return order(ctx, js, patch, decision{by: by, state: StatePaused, reason: reason}, nil)
}

// Abort ends a rollout. Servers that have not applied the patch skip it and go on with the next one. It replaces a plan that cannot
// be read.
func Abort(ctx context.Context, js jetstream.JetStream, patch, by, reason string) error {
	if p, _, err := Read(ctx, js, patch); errors.Is(err, ErrUnreadable) {
		p = p.orNext(false, patch, Policy{})
		p.State, p.By, p.Reason = StateAborted, by, reason // in one write: without a plan, somebody could get his turn
		if err := Write(ctx, js, p); err != nil && !errors.Is(err, ErrChanged) {
			return err
		}
	}
	return order(ctx, js, patch, decision{by: by, state: StateAborted, reason: reason}, nil)
}

// decision is what an operator ordered: the new state of a rollout, who wants it, and why.
type decision struct{ by, state, reason string }

func order(ctx context.Context, js jetstream.JetStream, patch string, d decision, edit func(*Plan) error) error {
	return change(ctx, js, patch, func(p *Plan) error {
		if p.State == StateAborted && d.state != StateAborted {
			return fmt.Errorf("the rollout of %s was aborted by %s; publish the files again", patch, p.By)
		}
		if edit != nil {
			if err := edit(p); err != nil {
				return err
			}
		}
		p.State, p.Reason, p.By, p.Changed = d.state, d.reason, d.by, time.Now()
		if d.state == StateRunning && p.pending() {
			p.State, p.Reason = StateApproval, notApproved
		}
		return nil
	})
}

// change edits the plan of a patch, which nobody may have asked for yet.
func change(ctx context.Context, js jetstream.JetStream, patch string, edit func(*Plan) error) error {
	for {
		p, ok, err := Read(ctx, js, patch)
		if err != nil {
			return err
		}
		p = p.orNext(ok, patch, Policy{})
		if err := edit(&p); err != nil {
			return err
		}
		err = Write(ctx, js, p)
		if err == nil {
			_ = js.Conn().Publish(bus.OrderSubject(patch), nil) // a server that does not hear it looks by itself
		}
		if !errors.Is(err, ErrChanged) {
			return err
		}
	}
}
