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
	} else if !d.checkFirst && d.msg.Headers().Get(bus.HeaderCheck) == "" {
		return true
	}
	check, _, err := d.lookUp(ctx)
	switch {
	case err != nil:
		d.returnUnseen(err)
		return false
	case !check.Found:
		d.skip(ctx)
		return false
	}
	if !about(d.msg.Headers(), d.msg.Data(), d.database, check) {
		d.mismatch()
		return false
	}
	if d.msg.Headers().Get(bus.HeaderCheck) == bus.CheckReconciled && d.isDead(ctx, check) {
		d.counts.skipped.Add(1)
		d.log.Info().Msg("step was given up on already")
		d.ack() // and its row stays
		return false
	}
	d.step.Attempt = max(1, d.step.Attempt-check.Released)
	return true
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
