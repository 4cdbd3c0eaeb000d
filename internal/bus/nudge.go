package bus

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
)

// Nudge tells when a message on subject has gone by. It says when to look at what JetStream stores, and no more: messages that come close together are
// one nudge, and without a connection there is none. Call stop in the end.
func Nudge(nc *nats.Conn, subject string) (nudge <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	sub, err := nc.Subscribe(subject, func(*nats.Msg) {
		select {
		case c <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return c, func() {}
	}
	return c, func() { _ = sub.Unsubscribe() }
}

// SleepUntil waits for a nudge, for d at most, and tells whether ctx let it.
func SleepUntil(ctx context.Context, nudge <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-nudge:
	case <-t.C:
	}
	return true
}
