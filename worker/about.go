package worker

import (
	"context"

	"github.com/nats-io/nats.go"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/work"
	"github.com/omflow-booster/omflow-booster/worker/outbox"
)

// about tells whether a message of WORK or DEAD is about the step that stands in a row. The number of the row does not say so: another
// database has the same numbers, and one that was set back gives them again.
func about(h nats.Header, body []byte, database string, row outbox.Check) bool {
	if owner := h.Get(bus.HeaderDatabase); owner != "" && owner != database {
		return false
	}
	if digest := h.Get(bus.HeaderDigest); digest != "" {
		return digest == row.Item.Digest()
	}
	if len(body) > 0 {
		it, err := work.Parse(body)
		return err == nil && it.Same(row.Item)
	}
	return row.Err != nil // written by a former version, which kept nothing of rows that could not be carried
}

// foreign tells whether a message is a step of another database, and deals with it then. Its row is not here, so it is not ours
// to run or to call done; its own database has the row, and brings it to its own Booster.
func (ds *deliveries) foreign(d *delivery) bool {
	owner := d.msg.Header.Get(bus.HeaderDatabase)
	if owner == "" || owner == ds.database {
		return false
	}
	log := d.log.With().Str("database", owner).Logger()
	ctx, cancel := context.WithTimeout(context.Background(), ackTimeout)
	defer cancel()
	if now, _, err := bus.ReadDatabase(ctx, ds.js); err != nil || now.ID != ds.database {
		log.Error().AnErr("booster", err).Msg("this step belongs to another database, and so does this Booster, perhaps; step given back")
		d.nak(deadRetry)
		return true
	}
	log.Warn().Msg("a step of another database left the queue of this one; its row is in that database")
	d.ack()
	return true
}

// throwAway removes the row that an order of `dead purge` means, and no other that has its number.
func (d *delivery) throwAway(ctx context.Context) {
	row, _, err := d.lookUp(ctx)
	switch {
	case err != nil:
		d.returnUnseen(err)
	case row.Found && !about(d.msg.Header, d.msg.Data, d.database, row):
		d.log.Warn().Msg("row not removed: it holds another step than the one that was purged")
		d.msg.ackThen(d.askProof) // while the message is there, the row counts as queued
	default:
		d.log.Info().Msg("step discarded by order")
		d.complete(ctx)
	}
}

// mismatch drops a message whose row holds another step by now, and has that one queued.
func (d *delivery) mismatch() {
	d.counts.skipped.Add(1)
	d.log.Warn().Msg("message dropped: its row holds another step")
	d.msg.ackThen(d.askProof)
}

// askProof has the reconciler look at the row at once. Should nobody hear it, the row's turn comes all the same.
func (d *delivery) askProof() {
	if err := d.nc.Publish(bus.SubjectProve, []byte(d.step.ID.String())); err != nil {
		d.log.Debug().Err(err).Msg("no look at the row asked for")
	}
}
