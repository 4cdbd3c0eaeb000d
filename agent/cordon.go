package agent

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// followCordon keeps the worker from taking steps while an operator wants that, until ctx ends. What cannot be read changes nothing.
func followCordon(ctx context.Context, c *bus.Client, node string, h *host, every time.Duration, log zerolog.Logger) {
	nudge := make(chan struct{}, 1)
	// The same message that JetStream stores: it says when to look.
	sub, err := c.NC.Subscribe(bus.CordonSubject(node), func(*nats.Msg) {
		select {
		case nudge <- struct{}{}:
		default:
		}
	})
	if err == nil {
		defer func() { _ = sub.Unsubscribe() }()
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		order, on, err := bus.ReadCordon(ctx, c.JS, node)
		if err == nil && h.cordon(on) {
			log.Info().Bool("cordoned", on).Str("by", order.By).Str("note", order.Note).Msg("worker takes steps, or not, by order of an operator")
		}
		select {
		case <-ctx.Done():
			return
		case <-nudge:
		case <-tick.C:
		}
	}
}
