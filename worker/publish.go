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
	"github.com/omflow-booster/omflow-booster/internal/work"
	"github.com/omflow-booster/omflow-booster/worker/batch"
	"github.com/omflow-booster/omflow-booster/worker/outbox"
)

var (
	// ErrUnavailable is returned when work cannot be taken now, although it is well formed: no Booster, no database, or the queue is full.
	// Nothing was stored that was not there before; the same call may be made again.
	ErrUnavailable = errors.New("cannot take work now")
	// ErrUnknown is returned when the database did not say whether it stored the work. Sending it again is harmless with a submit_id
	// and doubles it without.
	ErrUnknown = errors.New("not known whether the work was stored")
	errFull    = fmt.Errorf("%w: the queue of the Booster is full", ErrUnavailable)
)

const (
	publishTimeout = 4 * time.Second // of a submit, retries included
	publishRetry   = 100 * time.Millisecond
	insertTimeout  = 4 * time.Second // of the statement that inserts rows
	fullHold       = time.Second     // after the queue was full, refuse at once for this long
	rowsAtOnce     = 100             // rows read together that may be large
)

// Accepted is one item that is safe.
type Accepted struct {
	ID     work.ID
	Queued bool  // its message is in WORK; if not, the row is in SQL and the reconciler publishes it
	Err    error // it is no step that could be carried; its row in omflow_queuedata stays
}

// publisher brings items to WORK: a row first, then the message, then the ack.
type publisher struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	inserts *batch.Batcher[[]outbox.Submission, []int64]
	remove  func(ctx context.Context, ids []work.ID) error
	load    func(ctx context.Context, ids []work.ID) ([]outbox.Stored, error)
	// database is the id of ours, once the Booster is known to carry its steps: nothing is published before.
	database atomic.Pointer[string]
	full     atomic.Int64 // unix nanoseconds until which submits are refused
}

// usable returns an error that says why nothing can be published now.
func (p *publisher) usable() error {
	if !p.nc.IsConnected() {
		return fmt.Errorf("%w: no connection to a Booster", ErrUnavailable)
	}
	if p.database.Load() == nil {
		return fmt.Errorf("%w: not known yet whose steps the Booster carries", ErrUnavailable)
	}
	return nil
}

// Submit makes items durable and queues them. An item with a row of omflow_queuedata is durable already; any other gets a row
// of our outbox. On an error nothing new was stored. What is returned is safe: an item that is not queued yet has its row,
// and the reconciler publishes it. An item without input_param is completed from its row.
func (p *publisher) Submit(ctx context.Context, items []work.Item) ([]Accepted, error) {
	if err := p.usable(); err != nil {
		return nil, err
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
	// Full is a certain answer. If it was the answer for everything, and every row that this call needed was made by it, those rows go again
	// and the sender comes back with the work; else what was taken stays taken.
	if len(refused) == len(steps) && len(steps) > 0 && !slices.ContainsFunc(steps, (*outgoing).shared) && p.rollBack(refused) == nil {
		return nil, errFull
	}
	return accepted(steps), nil
}

// outgoing is a step on its way into WORK.
type outgoing struct {
	id      work.ID
	item    work.Item
	seq     uint64 // in WORK, if this call has queued it
	msg     *nats.Msg
	outbox  bool // its row is in our outbox
	named   bool // by a submit_id: the row may have been made by an earlier call
	queued  bool
	wrong   error // it can never be queued
	ack     jetstream.PubAckFuture
	lastErr error
}

// open tells that the message is still to be published.
func (o *outgoing) open() bool { return !o.queued && o.wrong == nil }

// shared tells that the row may be another call's, so that this one must not remove it.
func (o *outgoing) shared() bool { return o.outbox && o.named }

func accepted(steps []*outgoing) []Accepted {
	list := make([]Accepted, len(steps))
	for i, s := range steps {
		list[i] = Accepted{ID: s.id, Queued: s.queued, Err: s.wrong}
	}
	return list
}

// store gives every item its row and builds its message. Rows of one call keep the order of its items.
func (p *publisher) store(ctx context.Context, items []work.Item) ([]*outgoing, error) {
	rows, err := p.readRows(ctx, items)
	if err != nil {
		return nil, err
	}
	steps, bodies := make([]*outgoing, len(items)), make([][]byte, len(items))
	var subs []outbox.Submission
	for i, it := range items {
		steps[i] = &outgoing{id: work.ID{Source: work.Queue, Row: it.Row}}
		if it.Row > 0 && len(it.InputParam) == 0 {
			row, found := rows[it.Row]
			if !found || row.Err != nil {
				steps[i].queued, steps[i].wrong = !found, row.Err // gone: it is done already
				continue
			}
			it = row.Item
			items[i] = it
		}
		if bodies[i], err = it.Lean().Encode(); err != nil {
			return nil, err
		}
		if it.Row == 0 {
			key := it.SubmitID
			if key == "" {
				key = nuid.Next()
			}
			subs = append(subs, outbox.Submission{Key: key, Body: string(bodies[i])})
			steps[i] = &outgoing{id: work.ID{Source: work.Outbox}, outbox: true, named: it.SubmitID != ""}
		}
	}
	inserted, err := p.insert(ctx, subs)
	if err != nil {
		return nil, err
	}
	for i, s := range steps {
		if s.outbox {
			s.id.Row, inserted = inserted[0], inserted[1:]
			s.queued = s.id.Row == 0 // the same submit_id was finished just now
		}
		s.msg = stepMessage(s.id, items[i], bodies[i], *p.database.Load()).Work()
	}
	return steps, nil
}

// readRows reads the rows of items that came without their input_param: the flow in it is part of the message's subject.
func (p *publisher) readRows(ctx context.Context, items []work.Item) (map[int64]outbox.Stored, error) {
	var ids []work.ID
	for _, it := range items {
		if it.Row > 0 && len(it.InputParam) == 0 {
			ids = append(ids, work.ID{Source: work.Queue, Row: it.Row})
		}
	}
	rows := make(map[int64]outbox.Stored, len(ids))
	for chunk := range slices.Chunk(ids, rowsAtOnce) {
		ctx, cancel := context.WithTimeout(ctx, insertTimeout)
		stored, err := p.load(ctx, chunk)
		cancel()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		for _, s := range stored {
			rows[s.ID.Row] = s
		}
	}
	return rows, nil
}

// insert makes the rows, and asks again under the same keys when the database did not answer: an answer that was lost must not become
// the caller's "send it again".
func (p *publisher) insert(ctx context.Context, subs []outbox.Submission) ([]int64, error) {
	if len(subs) == 0 {
		return nil, nil
	}
	ctx = context.WithoutCancel(ctx) // the flush goes on without us: wait for its answer, which is bounded by insertTimeout
	rows, err := p.inserts.Do(ctx, subs)
	switch {
	case err == nil:
		return rows, nil
	case errors.Is(err, batch.ErrBadInput):
		return nil, fmt.Errorf("%w: the database refuses it: %w", work.ErrMalformed, err)
	case errors.Is(err, batch.ErrClosed):
		return nil, fmt.Errorf("%w: this worker is stopping", ErrUnavailable)
	}
	if rows, err = p.inserts.Do(ctx, subs); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return rows, nil
}

// rollBack removes the rows that this call made, and no others.
func (p *publisher) rollBack(steps []*outgoing) error {
	var ids []work.ID
	for _, s := range steps {
		if s.outbox && !s.named {
			ids = append(ids, s.id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), insertTimeout)
	defer cancel()
	return p.remove(ctx, ids)
}

// insertCalls writes the submissions of several calls together.
func insertCalls(insert func(context.Context, []outbox.Submission) ([]int64, error),
	isBadInput func(error) bool,
) func(context.Context, [][]outbox.Submission) ([][]int64, error) {
	return func(ctx context.Context, calls [][]outbox.Submission) ([][]int64, error) {
		ctx, cancel := context.WithTimeout(ctx, insertTimeout)
		defer cancel()
		rows, err := insert(ctx, slices.Concat(calls...))
		if err != nil && isBadInput(err) {
			return nil, fmt.Errorf("%w: %w", batch.ErrBadInput, err)
		}
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

// stepMessage is a step of this database as it travels.
func stepMessage(id work.ID, it work.Item, body []byte, database string) bus.StepMessage {
	flow, ticket := it.Flow()
	step := bus.StepMessage{ID: id, Kind: it.Name, Flow: flow, Ticket: ticket, Database: database, Body: body}
	if len(it.Lean().InputParam) < len(it.InputParam) {
		step.Digest = it.Digest()
	}
	return step
}

// publish sends every step and waits for the acks. What fails for want of an answer is sent again under the same id until
// the time is up.
func (p *publisher) publish(ctx context.Context, steps []*outgoing) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	for wait := publishRetry; ; wait *= 2 {
		again := false
		for _, s := range steps {
			if s.open() {
				s.ack, s.lastErr = p.js.PublishMsgAsync(s.msg)
			}
		}
		for _, s := range steps {
			if !s.open() {
				continue
			}
			if s.lastErr == nil {
				s.seq, s.lastErr = await(ctx, s.ack)
			}
			s.queued = s.lastErr == nil || bus.IsQueued(s.lastErr)
			again = again || (!s.queued && !bus.IsFull(s.lastErr))
		}
		if !again || !bus.Sleep(ctx, wait) {
			return
		}
	}
}

func await(ctx context.Context, ack jetstream.PubAckFuture) (seq uint64, err error) {
	select {
	case stored := <-ack.Ok():
		return stored.Sequence, nil
	case err := <-ack.Err():
		return 0, err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
