package worker

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/worker/outbox"
)

// bury writes a step that is given up on to DEAD, and only then removes it from WORK. Its row stays.
func (d *delivery) bury(reason string, cause error, started time.Time) {
	err := d.insist("write to DEAD", func(ctx context.Context) error { return d.publishDead(ctx, d.msg, reason, cause, d.step.Attempt) })
	if err != nil {
		d.log.Error().Err(err).Msg("step not written to DEAD; it stays in WORK")
		d.nak(deadRetry)
		return
	}
	d.counts.dead.Add(1)
	d.log.Error().Err(cause).Str("reason", reason).Int(logging.Attempt, d.step.Attempt).Msg("step given up; see `omflow-booster dead show " +
		d.step.ID.String() + "`")
	d.note("dead", cause, started)
	d.ack()
}

// isDead tells whether the step is in DEAD. Without an answer it is taken for one that is not: then it has one try more.
func (d *delivery) isDead(ctx context.Context, row outbox.Check) bool {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	stream, err := d.js.Stream(ctx, bus.StreamDead)
	if err != nil {
		return false
	}
	dead, err := stream.GetLastMsgForSubject(ctx, deadSubject(d.msg))
	return err == nil && about(dead.Header, dead.Data, d.database, row)
}

// deadSubject is the place in DEAD of a message of WORK: the same tokens.
func deadSubject(msg jetstream.Msg) string { return "dead" + strings.TrimPrefix(msg.Subject(), "work") }

// publishDead copies a message of WORK to DEAD under the same tokens.
func (ds *deliveries) publishDead(ctx context.Context, msg jetstream.Msg, reason string, cause error, attempt int) error {
	dead := nats.NewMsg(deadSubject(msg))
	dead.Data = msg.Data()
	for _, h := range []string{bus.HeaderID, bus.HeaderKey, bus.HeaderKind, bus.HeaderDatabase, bus.HeaderDigest} {
		if v := msg.Headers().Get(h); v != "" {
			dead.Header.Set(h, v)
		}
	}
	setDead(dead.Header, ds.worker, reason, cause, attempt)
	_, err := ds.js.PublishMsg(ctx, dead)
	return err
}

// setDead writes why a step was given up.
func setDead(h nats.Header, worker, reason string, cause error, attempt int) {
	h.Set(bus.HeaderAttempt, strconv.Itoa(attempt))
	h.Set(bus.HeaderDeadReason, bus.HeaderText(reason))
	h.Set(bus.HeaderDeadError, bus.HeaderText(cause.Error()))
	h.Set(bus.HeaderDeadWorker, worker)
	h.Set(bus.HeaderDeadAt, time.Now().UTC().Format(time.RFC3339))
}

// reject moves a message that cannot be read to DEAD, so that it is seen and does not come again.
func (ds *deliveries) reject(msg jetstream.Msg, cause error) {
	ctx, cancel := context.WithTimeout(context.Background(), ackTimeout)
	defer cancel()
	ds.log.Error().Err(cause).Str("subject", msg.Subject()).Msg("message cannot be read; moved to DEAD")
	if err := ds.publishDead(ctx, msg, "cannot be read", cause, 0); err != nil {
		_ = msg.NakWithDelay(deadRetry)
		return
	}
	ds.counts.dead.Add(1)
	_ = msg.DoubleAck(ctx) // unconfirmed: it comes again and is moved again, to the same place
}
