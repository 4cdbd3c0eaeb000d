package diagnosis

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

// WaitingRollout is a patch that some server has yet to take, and that no server gets a turn for.
type WaitingRollout struct {
	Patch  string `json:"patch"`
	Note   string `json:"note"`
	State  string `json:"state"`  // approval, paused, halted or running, as in `patch show`; or unreadable
	Reason string `json:"reason"` // of the state
	By     string `json:"by"`     // who has changed the state last
}

// waitingRollouts are the rollouts that wait for somebody, in the order of their patches, never nil.
func waitingRollouts(ctx context.Context, c *bus.Client) ([]WaitingRollout, error) {
	waiting := []WaitingRollout{}
	call, cancel := ask(ctx)
	defer cancel()
	plans, err := rollout.Waiting(call, c.JS)
	if errors.Is(err, jetstream.ErrBucketNotFound) || err == nil && len(plans) == 0 {
		return waiting, nil
	}
	if err != nil {
		return waiting, err
	}
	byPatch := map[string]rollout.Plan{}
	for _, p := range plans {
		byPatch[p.Patch] = p
	}
	list, err := ListPatches(ctx, c)
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrBucketNotFound) {
		return waiting, nil // which status says by itself
	}
	for _, p := range list {
		plan, waits := byPatch[p.ID]
		if !waits || p.Over() {
			continue
		}
		w := WaitingRollout{Patch: p.ID, Note: p.Note, State: plan.State, Reason: plan.Reason, By: plan.By}
		if plan.State == rollout.StateRunning {
			w.Reason = plan.Held
		}
		waiting = append(waiting, w)
	}
	return waiting, err
}

const codeRolloutHeld = "rollout_held"

// rolloutProblems says what each rollout waits for, and how it goes on.
func rolloutProblems(r Report) (found []Problem) {
	for _, w := range r.Rollouts {
		name := named(w.Patch, w.Note)
		ends := fmt.Sprintf(", or `omflow-booster patch abort %s` ends it. Later patches wait for it.", w.Patch)
		switch w.State {
		case rollout.StateApproval:
			found = append(found, Problem{
				"rollout_approval", name + " waits for approval", fmt.Sprintf("`omflow-booster patch approve %s` has it go to the servers%s", w.Patch,
					ends),
			})
		case rollout.StatePaused:
			text := name + " is paused"
			if w.By != "" {
				text += " by " + w.By
			}
			if w.Reason != "" {
				text += ": " + w.Reason
			}
			found = append(found, Problem{"rollout_paused", text, fmt.Sprintf("`omflow-booster patch resume %s` has it go on%s", w.Patch, ends)})
		case rollout.StateHalted:
			found = append(found, Problem{
				"rollout_halted", name + " is halted: " + w.Reason,
				fmt.Sprintf("Look with `omflow-booster patch show %s`; `omflow-booster patch resume %s` has it go on to the other servers%s", w.Patch,
					w.Patch, ends),
			})
		case rollout.StateUnreadable:
			found = append(found, Problem{
				"rollout_unreadable", name + " goes to no further server, because its plan cannot be read: " + w.Reason,
				fmt.Sprintf("`omflow-booster patch abort %s` replaces the plan and ends the rollout; then publish the files again.", w.Patch),
			})
		default:
			found = append(found, Problem{codeRolloutHeld, name + " goes to no further server now: " + w.Reason, ""})
		}
	}
	return found
}
