package worker

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/deadletter"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/worker/outbox"
)

// deadLetter writes a step that is given up on to DEAD, and only then removes it from WORK. Its row stays.
func (r *run) deadLetter(reason string, cause error, started time.Time) {
	death := bus.Death{Worker: r.worker, Reason: reason, Err: cause, Attempt: r.step.Attempt}
	if err := r.bury(death); err != nil {
		r.log.Error().Err(err).Msg("step not written to DEAD; it stays in WORK")
		r.nak(deadRetry)
		return
	}
	r.counts.dead.Add(1)
	r.log.Error().Err(cause).Str("reason", reason).Int(logging.Attempt, r.step.Attempt).Msg("step given up; see `omflow-booster dead show " +
		r.step.ID.String() + "`")
	r.note("dead", cause, started)
	r.ack()
}

// bury copies the message to DEAD.
func (m *message) bury(death bus.Death) error {
	return m.retryWhileLeased("write to DEAD", func(ctx context.Context) error { return deadletter.Write(ctx, m.js, m.Msg, death) })
}

// isDead tells whether the step is in DEAD. Without an answer it is taken for one that is not: then it has one try more.
func (d *delivery) isDead(ctx context.Context, row outbox.Check) bool {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	dead, err := deadletter.Find(ctx, d.js, d.msg.Msg)
	return err == nil && about(dead.Header, dead.Data, d.database, row)
}

// reject moves a message that cannot be read to DEAD, so that it is seen and does not come again.
func (ds *deliveries) reject(msg *nats.Msg, cause error) {
	ctx, cancel := context.WithTimeout(context.Background(), ackTimeout)
	defer cancel()
	ds.log.Error().Err(cause).Str("subject", msg.Subject).Msg("message cannot be read; moved to DEAD")
	if err := deadletter.Write(ctx, ds.js, msg, bus.Death{Worker: ds.worker, Reason: "cannot be read", Err: cause}); err != nil {
		_ = msg.NakWithDelay(deadRetry)
		return
	}
	ds.counts.dead.Add(1)
	_ = msg.AckSync(nats.Context(ctx)) // unconfirmed: it comes again and is moved again, to the same place
}
