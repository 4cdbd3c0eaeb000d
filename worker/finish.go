package worker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/work"
)

const (
	endsMax    = 256 // ends under way; a slot whose step ends waits for room
	finishers  = 2   // statements about ends at the same time
	endsAtOnce = 200 // ends in one statement
)

// finisher brings steps to their end off the slots: the row first, the ack last, each for many steps together.
//
//	slot ──▶ ends ──▶ rows (one statement) ──▶ ack, nak (confirmed) ──▶ over
//	           ▲ a second later │ the database did not take it
//	           └────────────────┘
//
// What dies in between costs a delivery, which finds the row gone.
type finisher struct {
	confirms *confirms
	leases   *keeper
	rows     finishRows
	soft     context.Context // ends when the worker is asked to stop: a database that is away is not waited for
	log      zerolog.Logger

	room chan struct{} // a token for each end that is under way
	ends chan *end     // room for all of them: putting one back never waits
}

// finishRows is what ends need of the database; implemented by outbox.Store.
type finishRows interface {
	Finish(ctx context.Context, ids []work.ID, redelivered bool) error
	Release(ctx context.Context, id work.ID, seq uint64) error
	IsBadInput(err error) bool
}

// end is the end of a step that was delivered here.
type end struct {
	m       *message
	remove  bool // the row goes first
	again   bool // the step was delivered before
	release bool // note first that the delivery was no attempt
	verb    string
	then    func() // after the confirmation
}

func newFinisher(soft context.Context, c *confirms, k *keeper, rows finishRows, log zerolog.Logger) *finisher {
	return &finisher{
		confirms: c, leases: k, rows: rows, soft: soft, log: log, room: make(chan struct{}, endsMax), ends: make(chan *end, endsMax),
	}
}

// take takes an end over. It waits while too many others are under way: a database or a Booster that is slow slows the slots down.
func (f *finisher) take(e *end) {
	f.room <- struct{}{}
	if e.remove || e.release {
		f.ends <- e
		return
	}
	f.confirm(e)
}

// idle waits until all ends are over, or ctx ends, and tells which.
func (f *finisher) idle(ctx context.Context) bool {
	for taken := range cap(f.room) {
		select {
		case f.room <- struct{}{}:
		case <-ctx.Done():
			for range taken {
				<-f.room
			}
			return false
		}
	}
	for range cap(f.room) {
		<-f.room
	}
	return true
}

// run works until ctx ends.
func (f *finisher) run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for range finishers {
		all.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case first := <-f.ends:
					f.write(f.collect(first))
				}
			}
		})
	}
}

func (f *finisher) collect(first *end) []*end {
	batch := []*end{first}
	for len(batch) < endsAtOnce {
		select {
		case e := <-f.ends:
			batch = append(batch, e)
		default:
			return batch
		}
	}
	return batch
}

// write tells the database of ends, and then the Booster of those that the database has taken.
func (f *finisher) write(batch []*end) {
	f.note(batch)
	var ids []work.ID
	redelivered := false
	for _, e := range batch {
		if e.remove {
			ids = append(ids, e.m.id)
			redelivered = redelivered || e.again
		}
	}
	var err error
	if len(ids) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), ackTimeout)
		defer cancel()
		err = f.rows.Finish(ctx, ids, redelivered)
	}
	for _, e := range batch {
		switch {
		case !e.remove || err == nil:
			f.confirm(e)
		case len(ids) > 1 && f.rows.IsBadInput(err): // each alone, so that none suffers for another
			f.write([]*end{e})
		default:
			f.later(e, err)
		}
	}
}

// note writes down which deliveries were no attempts. A database that does not answer is not asked for each of them.
func (f *finisher) note(batch []*end) {
	ctx, cancel := context.WithTimeout(context.Background(), ackTimeout)
	defer cancel()
	var err error
	for _, e := range batch {
		if e.release && err == nil {
			err = f.rows.Release(ctx, e.m.id, e.m.seq)
		}
		if e.release && err != nil {
			e.m.log.Warn().Err(err).Msg("giving the step back costs an attempt")
		}
		e.release = false
	}
}

// later tries to remove the row a second later. If the row cannot be removed, the message stays, and the next delivery finds out what is
// left to do.
func (f *finisher) later(e *end, err error) {
	switch {
	case e.m.isLost() || !e.m.lease.Valid():
		f.over(e, ErrLeaseLost)
	case f.soft.Err() != nil:
		e.m.log.Warn().Err(err).Msg("row of a finished step not removed, and the worker stops; given back")
		e.verb, e.then = verbNak, nil
		f.confirm(e)
	default:
		e.m.log.Warn().Err(err).Msg("row of a finished step not removed; trying again")
		time.AfterFunc(databaseWait, func() { f.ends <- e })
	}
}

// confirm sends the verb. Only the lease that the step has now counts for its repetition: an ack that the Booster carried out before it
// died is never answered, while renewals of a delivery that it does not know are.
func (f *finisher) confirm(e *end) {
	if e.m.isLost() || !e.m.lease.Valid() {
		f.over(e, ErrLeaseLost) // it may be with another worker by now; a nak would disturb that one
		return
	}
	f.confirms.send(&verb{m: e.m, text: e.verb, until: e.m.lease.Deadline(), over: func(err error) { f.over(e, err) }})
}

func (f *finisher) over(e *end, err error) {
	f.leases.forget(e.m)
	<-f.room
	switch {
	case err != nil && e.verb == verbAck:
		e.m.log.Warn().Err(err).Msg("ack not confirmed; the next delivery will find the step done")
	case err != nil:
		e.m.log.Warn().Err(err).Msg("not given back; the step comes again when its lease ends")
	case e.then != nil:
		e.then()
	}
}

// ack removes the message from WORK. An ack that is lost costs a delivery, which finds the row gone.
func (m *message) ack() { m.end(&end{verb: verbAck}) }

// ackThen is ack, and what comes after it.
func (m *message) ackThen(then func()) { m.end(&end{verb: verbAck, then: then}) }

// complete removes the row and then the message of a step that has had its effect.
func (m *message) complete(redelivered bool) {
	m.end(&end{remove: true, again: redelivered, verb: verbAck})
}

// nak asks for the next delivery after delay.
func (m *message) nak(delay time.Duration) { m.end(&end{verb: nak(delay)}) }

// release gives the step back without costing an attempt.
func (m *message) release(delay time.Duration) { m.end(&end{release: true, verb: nak(delay)}) }

func (m *message) end(e *end) {
	e.m, m.ended = m, true
	m.ends.take(e)
}

func nak(delay time.Duration) string {
	if delay > 0 {
		return fmt.Sprintf(`%s {"delay": %d}`, verbNak, delay.Nanoseconds())
	}
	return verbNak
}
