package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/group"
	"github.com/omflow-booster/omflow-booster/internal/work"
	"github.com/omflow-booster/omflow-booster/worker/outbox"
)

// ErrUnavailable is returned when work cannot be taken now, although it is well formed: no Booster, or its queue is full.
// Nothing was stored that was not there before; the same call may be made again.
var ErrUnavailable = errors.New("cannot take work now")

const (
	publishTimeout = 4 * time.Second // of a submit, retries included
	publishRetry   = 100 * time.Millisecond
	fullHold       = time.Second // after the queue was full, refuse at once for this long
)

// Accepted is one item that is safe.
type Accepted struct {
	ID     work.ID
	Queued bool // its message is in WORK; if not, the row is in SQL and the reconciler publishes it
}

// publisher brings items to WORK: a row first, then the message, then the ack.
type publisher struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	inserts *group.Group[[]outbox.Submission, []int64]
	remove  func(ctx context.Context, ids []work.ID) error
	full    atomic.Int64 // unix nanoseconds until which submits are refused
}

// Submit makes items durable and queues them. An item with a row of omflow_queuedata is durable already; any other gets a row
// of our outbox. On an error nothing new was stored. What is returned is safe: an item that is not queued yet has its row,
// and the reconciler publishes it.
func (p *publisher) Submit(ctx context.Context, items []work.Item) ([]Accepted, error) {
	if !p.nc.IsConnected() {
		return nil, fmt.Errorf("%w: no connection to a Booster", ErrUnavailable)
	}
	if time.Now().UnixNano() < p.full.Load() {
		return nil, errFull
	}
	steps, err := p.store(ctx, items)
	if err != nil {
		return nil, err
	}
	p.publish(ctx, steps)

	var refused []*outgoing
	for _, s := range steps {
		if !s.queued && bus.IsFull(s.lastErr) {
			p.full.Store(time.Now().Add(fullHold).UnixNano())
			refused = append(refused, s)
		}
	}
	// Full is a certain answer. If it was the answer for everything, the rows made by this call go again and the sender
	// comes back with the work; else what was taken stays taken.
	if len(refused) == len(steps) && len(steps) > 0 && p.undo(refused) == nil {
		return nil, errFull
	}
	return accepted(steps), nil
}

var errFull = fmt.Errorf("%w: the queue of the Booster is full", ErrUnavailable)

// outgoing is a step on its way into WORK.
type outgoing struct {
	id      work.ID
	msg     *nats.Msg
	made    bool // its row was made by this call
	queued  bool
	ack     jetstream.PubAckFuture
	lastErr error
}

func accepted(steps []*outgoing) []Accepted {
	list := make([]Accepted, len(steps))
	for i, s := range steps {
		list[i] = Accepted{ID: s.id, Queued: s.queued}
	}
	return list
}

// store gives every item its row and builds its message. Rows of one call keep the order of its items.
func (p *publisher) store(ctx context.Context, items []work.Item) ([]*outgoing, error) {
	steps := make([]*outgoing, len(items))
	var subs []outbox.Submission
	for i, it := range items {
		id := work.ID{Source: work.Queue, Row: it.Row}
		if it.Row == 0 {
			body, err := it.Encode()
			if err != nil {
				return nil, err
			}
			key := it.SubmitID
			if key == "" {
				key = nuid.Next()
			}
			subs = append(subs, outbox.Submission{Key: key, Body: string(body)})
			id.Source = work.Outbox
		}
		steps[i] = &outgoing{id: id, made: it.Row == 0}
	}
	var rows []int64
	if len(subs) > 0 {
		var err error
		if rows, err = p.inserts.Do(ctx, subs); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	for i, s := range steps {
		if s.made {
			s.id.Row, rows = rows[0], rows[1:]
			s.queued = s.id.Row == 0 // the same submit_id was finished just now
		}
		var err error
		if s.msg, err = message(s.id, items[i]); err != nil {
			return nil, errors.Join(err, p.undo(steps))
		}
	}
	return steps, nil
}

// insertCalls writes the submissions of several calls together.
func insertCalls(insert func(context.Context, []outbox.Submission) ([]int64, error)) func(context.Context, [][]outbox.Submission) ([][]int64, error) {
	return func(ctx context.Context, calls [][]outbox.Submission) ([][]int64, error) {
		rows, err := insert(ctx, slices.Concat(calls...))
		if err != nil {
			return nil, err
		}
		out := make([][]int64, len(calls))
		for i, call := range calls {
			out[i], rows = rows[:len(call)], rows[len(call):]
		}
		return out, nil
	}
}

// undo removes the rows that this call made.
func (p *publisher) undo(steps []*outgoing) error {
	var ids []work.ID
	for _, s := range steps {
		if s != nil && s.made {
			ids = append(ids, s.id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), publishTimeout)
	defer cancel()
	return p.remove(ctx, ids)
}

// message is a step as it travels on WORK.
func message(id work.ID, it work.Item) (*nats.Msg, error) {
	body, err := it.Encode()
	if err != nil {
		return nil, err
	}
	flow, key := it.Flow()
	msg := nats.NewMsg(bus.WorkSubject(it.Name, flow, id.String()))
	msg.Data = body
	msg.Header.Set(bus.HeaderMsgID, id.MsgID())
	msg.Header.Set(bus.HeaderID, id.String())
	msg.Header.Set(bus.HeaderKind, bus.HeaderText(it.Name))
	if key != "" {
		msg.Header.Set(bus.HeaderKey, bus.HeaderText(key))
	}
	return msg, nil
}

// publish sends every step and waits for the acks. What fails for want of an answer is sent again under the same id until
// the time is up.
func (p *publisher) publish(ctx context.Context, steps []*outgoing) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	for wait := publishRetry; ; wait *= 2 {
		again := false
		for _, s := range steps {
			if !s.queued {
				s.ack, s.lastErr = p.js.PublishMsgAsync(s.msg)
			}
		}
		for _, s := range steps {
			if s.queued {
				continue
			}
			if s.lastErr == nil {
				s.lastErr = await(ctx, s.ack)
			}
			s.queued = s.lastErr == nil || bus.IsQueued(s.lastErr)
			again = again || (!s.queued && !bus.IsFull(s.lastErr))
		}
		if !again || !sleep(ctx, wait) {
			return
		}
	}
}

func await(ctx context.Context, ack jetstream.PubAckFuture) error {
	select {
	case <-ack.Ok():
		return nil
	case err := <-ack.Err():
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sleep waits for d and tells whether ctx let it.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
