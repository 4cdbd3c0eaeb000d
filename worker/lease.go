package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

const (
	sendAckEvery = 250 * time.Millisecond // between two tries to reach the Booster about a step
	renewRetry   = time.Second
	errLeaseMsg  = "lease lost: this worker or its Booster stood still for too long, or the Booster lost its queue"
)

// The verbs of an ack, as NATS defines them. Each is sent as a request: the Booster's answer says that it has arrived. The answer does not
// say that the step was still ours; the row decides that.
const (
	verbAck   = "+ACK"
	verbRenew = "+WPI"
	verbNak   = "-NAK"
)

// keepLease renews the lease at a quarter of it. When its end comes all the same, or the Booster turns out to have another
// queue, the step's context ends with ErrLeaseLost.
func (m *message) keepLease(ctx context.Context, cancel context.CancelCauseFunc) (stop func()) {
	ctx, stopRenewing := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		lease := m.queue.leaseTime()
		next := lease / 4
		for m.pauseOrLost(ctx, min(next, time.Until(m.lease.Deadline()))) {
			began := time.Now()
			if !m.lease.Valid() {
				break
			}
			next = min(renewRetry, lease/8)
			if m.sendAck(ctx, verbRenew) == nil {
				lease = m.queue.leaseTime()
				m.lease.Renew(began.Add(lease))
				next = lease / 4
			}
		}
		if ctx.Err() == nil {
			m.lease.end()
			m.log.Warn().Msg(errLeaseMsg)
			cancel(ErrLeaseLost)
		}
	}()
	return func() {
		stopRenewing()
		<-over
	}
}

// pauseOrLost waits. It returns false when ctx ends or the queue is another one.
func (m *message) pauseOrLost(ctx context.Context, wait time.Duration) bool {
	t := time.NewTimer(max(wait, 0))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-m.lost:
		return false
	case <-t.C:
		return true
	}
}

// sendAck sends one verb about the step and waits for the Booster's answer. It says nothing to a queue that may be another one.
func (m *message) sendAck(ctx context.Context, verb string) error {
	if err := bus.Away(m.nc); err != nil {
		return err
	}
	if !m.queue.sure() {
		return errors.New("the connection was lost and the queue not looked at since")
	}
	select {
	case <-m.lost:
		return ErrLeaseLost
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, min(ackTimeout, max(m.queue.leaseTime()/4, sendAckEvery)))
	defer cancel()
	_, err := m.nc.RequestWithContext(ctx, m.Reply(), []byte(verb))
	return err
}

// retryWhileLeased does what must be done while the step is ours, again and again: a Booster that restarts is back within seconds, and
// what was decided must not be forgotten because of it.
//
// Only the lease that the step has now counts: an ack that the Booster carried out before it died is never answered, while renewals of a
// delivery that it does not know are, so with renewals this would hold its slot for ever.
func (m *message) retryWhileLeased(what string, do func(ctx context.Context) error) error {
	until := m.lease.Deadline()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), ackTimeout)
		err := do(ctx)
		cancel()
		if err == nil {
			return nil
		}
		if bus.IsFull(err) {
			return fmt.Errorf("%s: %w", what, err) // it may stay so for long, and the slot is for other steps meanwhile
		}
		if !m.lease.Valid() || time.Now().After(until) || m.hard.Err() != nil || errors.Is(err, ErrLeaseLost) ||
			errors.Is(err, nats.ErrConnectionClosed) {
			return fmt.Errorf("%s: %w", what, err)
		}
		if !m.pauseOrLost(context.Background(), sendAckEvery) {
			return fmt.Errorf("%s: %w", what, ErrLeaseLost)
		}
	}
}

// ack removes the message from WORK. An ack that is lost costs a delivery, which finds the row gone.
func (m *message) ack() {
	if err := m.retryWhileLeased("ack", func(ctx context.Context) error { return m.sendAck(ctx, verbAck) }); err != nil {
		m.log.Warn().Err(err).Msg("ack not confirmed; the next delivery will find the step done")
	}
}

// nak asks for the next delivery after delay.
func (m *message) nak(delay time.Duration) {
	if !m.lease.Valid() {
		return // it may be with another worker by now; a nak would disturb that one
	}
	verb := verbNak
	if delay > 0 {
		verb = fmt.Sprintf(`%s {"delay": %d}`, verbNak, delay.Nanoseconds())
	}
	if err := m.retryWhileLeased("nak", func(ctx context.Context) error { return m.sendAck(ctx, verb) }); err != nil {
		m.log.Warn().Err(err).Msg("not given back; the step comes again when its lease ends")
	}
}

// release gives the step back without costing an attempt.
func (m *message) release(delay time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), ackTimeout)
	defer cancel()
	if err := m.rows.Release(ctx, m.id, m.seq); err != nil {
		m.log.Warn().Err(err).Msg("giving the step back costs an attempt")
	}
	m.nak(delay)
}
