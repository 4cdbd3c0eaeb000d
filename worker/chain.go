package worker

import (
	"context"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/deadletter"
	"github.com/omflow-booster/omflow-booster/internal/work"
)

// Bounds of a chain. Both keep what waits in the queue, and other servers that are idle, from waiting for one ticket.
const (
	chainSteps = 16          // steps in hand: twice what a ticket of the bundled flow needs
	chainTime  = time.Second // after which no more step begins in hand; what is slow gains nothing from saving a millisecond
)

// chain is the steps that run one after the other under the lease of one message: the step of the message, and follow-up steps in hand,
// each of which the step before it has named. Their rows keep them safe: nobody else has heard of a step in hand. The
// message is acknowledged at the end of the chain.
//
//	message ─▶ step ─▶ first follow-up step ─▶ first follow-up step … ─▶ ack
//	             └▶ others: published            └▶ others: published
type chain struct {
	*deliveries
	msg   *message
	began time.Time
	steps int // in hand
}

// run runs the step of a message, and then what follows in hand.
func (c *chain) run(ctx context.Context, first *run) {
	next := first.execute(ctx)
	if len(next) == 0 {
		return // the message has had its answer
	}
	for len(next) > 0 {
		step := c.follow(ctx, next)
		if step == nil {
			break
		}
		next = step.execute(ctx)
	}
	c.msg.ack()
}

// follow takes the first of the follow-up steps in hand and publishes the others, so that they spread. It returns nil if it had to publish
// all of them.
func (c *chain) follow(ctx context.Context, items []work.Item) *run {
	first := items[0]
	if c.goesOn() && c.readItem(ctx, &first) {
		items = items[1:]
	} else {
		first.Row = 0
	}
	if len(items) > 0 {
		// Their rows are committed. If this fails, the reconciler publishes them.
		if _, err := c.put(context.WithoutCancel(ctx), c.msg.lease, items); err != nil {
			c.log.Warn().Err(err).Msg("follow-up steps not published; the reconciler will do it")
		}
	}
	if first.Row == 0 {
		return nil
	}
	c.steps++
	c.counts.inHand.Add(1)
	id := work.ID{Source: work.Queue, Row: first.Row}
	hand := &inHand{message: c.msg}
	hand.run = c.begin(hand, id, first, c.msg.lease)
	return &hand.run
}

// goesOn tells whether another step may begin in hand.
func (c *chain) goesOn() bool {
	return c.steps < chainSteps && time.Since(c.began) < chainTime && c.msg.lease.Valid() && c.mayBegin()
}

// readItem reads the parameter of an item that came without it. What cannot be read is left to others.
func (c *chain) readItem(ctx context.Context, it *work.Item) bool {
	if len(it.InputParam) > 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	stored, err := c.rows.Load(ctx, []work.ID{{Source: work.Queue, Row: it.Row}})
	if err != nil || len(stored) == 0 || stored[0].Err != nil {
		return false
	}
	*it = stored[0].Item
	return true
}

// inHand is the claim on a follow-up step that no message gave: it holds as long as the message of its chain. Only a step that has to be
// tried again gets a message.
type inHand struct {
	*message // of the chain
	run      run
}

// ack does nothing: the message of the chain waits for the end of the chain.
func (h *inHand) ack() {}

func (h *inHand) nak(delay time.Duration) { h.requeue(h.run.step.Attempt, delay) }

func (h *inHand) release(delay time.Duration) { h.requeue(h.run.step.Attempt-1, delay) }

// requeue publishes the step, to be tried again after delay. If it cannot, the reconciler does, and an attempt is forgotten.
func (h *inHand) requeue(tried int, delay time.Duration) {
	if !h.lease.Valid() {
		return // the reconciler may have published it, and another worker run it by now
	}
	err := h.retryWhileLeased("publish", func(ctx context.Context) error {
		if err := bus.Away(h.nc); err != nil {
			return err
		}
		msg, err := h.build()
		if err != nil {
			return err
		}
		msg.Tried, msg.Delay = tried, delay
		out := &outgoing{id: msg.ID, item: h.run.step.Item, msg: msg.Work()}
		h.run.publish(ctx, []*outgoing{out})
		if out.queued {
			return nil
		}
		return out.lastErr
	})
	if err != nil {
		h.run.log.Warn().Err(err).Msg("step in hand not published; the reconciler will do it")
	}
}

// bury writes the step to DEAD, as the copy of its message would be.
func (h *inHand) bury(death bus.Death) error {
	return h.retryWhileLeased("write to DEAD", func(ctx context.Context) error {
		msg, err := h.build()
		if err != nil {
			return err
		}
		return deadletter.WriteUnqueued(ctx, h.js, msg, death)
	})
}

func (h *inHand) build() (bus.StepMessage, error) {
	it := h.run.step.Item
	body, err := it.Lean().Encode()
	return stepMessage(h.run.step.ID, it, body, h.run.database), err
}
