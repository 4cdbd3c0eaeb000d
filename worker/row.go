package worker

import (
	"context"
	"errors"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/work"
	"github.com/omflow-booster/omflow-booster/worker/outbox"
)

const databaseWait = time.Second // between two looks at a database that does not answer

// rows is what the worker needs of the database for each step; implemented by outbox.Store.
type rows interface {
	Check(ctx context.Context, id work.ID, seq uint64) (outbox.Check, error)
	Release(ctx context.Context, id work.ID, seq uint64) error
	Load(ctx context.Context, ids []work.ID) ([]outbox.Stored, error)
}

// checkRow asks the database about a step that was delivered or published before: if its row is gone, it is done already.
func (d *delivery) checkRow(ctx context.Context) (run bool) {
	if d.delivered > 1 {
		d.counts.redelivered.Add(1)
	} else if !d.checkFirst && d.msg.Header.Get(bus.HeaderCheck) == "" {
		return true
	}
	check, err := d.firstLook(ctx)
	switch {
	case err != nil:
		d.returnUnseen(err)
		return false
	case !check.Found:
		d.skip(ctx)
		return false
	}
	if !about(d.msg.Header, d.msg.Data, d.database, check) {
		d.mismatch()
		return false
	}
	if d.msg.Header.Get(bus.HeaderCheck) == bus.CheckReconciled && d.isDead(ctx, check) {
		d.counts.skipped.Add(1)
		d.log.Info().Msg("step was given up on already")
		d.ack() // and its row stays
		return false
	}
	d.step.Attempt = max(1, d.step.Attempt-check.Released)
	return true
}

// firstLook is the row as it was read when the step came, or reads it.
func (d *delivery) firstLook(ctx context.Context) (check outbox.Check, err error) {
	if d.looked != nil && d.step.Lease.Valid() {
		return *d.looked, nil
	}
	check, _, err = d.lookUp(ctx)
	return check, err
}

// look reads the rows of steps that have just come with one statement. What it cannot read is read when the step has its slot. A step that
// was delivered before is looked at alone: its deliveries that were given back count, too.
func (ds *deliveries) look(ctx context.Context, steps []*delivery) {
	var ids []work.ID
	for _, d := range steps {
		if d.looksFirst() {
			ids = append(ids, d.step.ID)
		}
	}
	if len(ids) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, min(ackTimeout, ds.queue.leaseTime()/4))
	defer cancel()
	stored, err := ds.rows.Load(ctx, ids)
	if err != nil {
		return
	}
	found := make(map[work.ID]outbox.Stored, len(stored))
	for _, s := range stored {
		found[s.ID] = s
	}
	for _, d := range steps {
		if d.looksFirst() {
			s, there := found[d.step.ID]
			d.looked = &outbox.Check{Found: there, Item: s.Item, Err: s.Err}
		}
	}
}

// looksFirst tells whether a step that was not delivered before needs a look at its row.
func (d *delivery) looksFirst() bool {
	return d.delivered == 1 && !d.discard && (d.checkFirst || d.msg.Header.Get(bus.HeaderCheck) != "")
}

// readItem completes a step that travelled without its input_param, from its row.
func (r *run) readItem(ctx context.Context) (run bool) {
	var stored []outbox.Stored
	_, err := r.ask(ctx, func(ctx context.Context) (err error) {
		stored, err = r.rows.Load(ctx, []work.ID{r.step.ID})
		return err
	})
	switch {
	case err != nil:
		r.returnUnseen(err)
	case len(stored) == 0:
		r.skip(ctx)
	case stored[0].Err != nil:
		r.deadLetter("the row cannot be carried", stored[0].Err, time.Time{})
	default:
		r.step.Item = stored[0].Item
		r.step.Flow, r.step.Ticket = r.step.Item.Flow()
		return true
	}
	return false
}

// lookUp reads whether the row is there, see ask.
func (r *run) lookUp(ctx context.Context) (check outbox.Check, away bool, err error) {
	away, err = r.ask(ctx, func(ctx context.Context) (err error) {
		check, err = r.rows.Check(ctx, r.step.ID, r.seq)
		return err
	})
	return check, away, err
}

// ask asks the database. One that does not answer is waited for with the step in hand, because trying blindly could double an
// effect; away says that this happened. It fails when the step is not ours any more, when the worker is to stop, or with outbox.ErrNoTable:
// another worker may see the table.
func (r *run) ask(ctx context.Context, query func(ctx context.Context) error) (away bool, err error) {
	for {
		call, cancel := context.WithTimeout(ctx, ackTimeout)
		err = query(call)
		cancel()
		if err == nil {
			return away, nil
		}
		if errors.Is(err, outbox.ErrNoTable) {
			return away, err
		}
		away = true
		r.log.Warn().Err(err).Msg("database does not answer; waiting with the step in hand")
		if !r.wait(ctx, databaseWait) {
			return away, err
		}
	}
}

// returnUnseen gives a step back whose row could not be looked at. That is no try.
func (r *run) returnUnseen(err error) {
	if !errors.Is(err, outbox.ErrNoTable) {
		r.release(0)
		return
	}
	r.log.Error().Err(err).Msg("step given back")
	r.release(r.returnDelay(databaseWait))
}

// wait is a pause. It tells whether to go on: not when the worker is asked to stop.
func (r *run) wait(ctx context.Context, pause time.Duration) bool {
	return r.soft.Err() == nil && bus.Sleep(ctx, pause)
}
