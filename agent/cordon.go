package agent

import (
	"context"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// followCordon has the heartbeat say that an operator wants no steps here, until ctx ends. The worker reads the order for
// itself: it runs on, because the server hands its steps over to it. What cannot be read changes nothing.
func followCordon(ctx context.Context, c *bus.Client, node string, h *host, log zerolog.Logger) {
	notify, stop := bus.Notify(c.NC, bus.CordonSubject(node))
	defer stop()
	for ok := true; ok; ok = bus.Wait(ctx, notify, h.cfg.PatchEvery) {
		order, on, err := bus.ReadCordon(ctx, c.JS, node)
		if err == nil && h.cordon(on) {
			log.Info().Bool("cordoned", on).Str("by", order.By).Str("note", order.Note).Msg("worker takes steps, or not, by order of an operator")
		}
	}
}
