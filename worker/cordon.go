package worker

import (
	"context"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// cordonEvery is how often the cordon is read without a notification, as often as the agent looks for orders.
const cordonEvery = 10 * time.Second

// pullUncordoned runs pull until ctx ends, but not while an operator keeps the server of this worker from taking steps. Everything else of
// the worker goes on: the server hands its steps over, and running steps end. Before the cordon has been read once, nothing is pulled;
// later, what cannot be read changes nothing. A worker without an agent has no cordon.
func (w *Worker) pullUncordoned(ctx context.Context, pull func(context.Context)) {
	if w.cfg.Server == "" {
		pull(ctx)
		return
	}
	notify, stop := bus.Notify(w.client.NC, bus.CordonSubject(w.cfg.Server))
	defer stop()
	var end func() // of pulling; nil: nothing is pulled
	told := false
	for ok := true; ok; ok = bus.Wait(ctx, notify, cordonEvery) {
		order, on, err := bus.ReadCordon(ctx, w.client.JS, w.cfg.Server)
		switch {
		case err != nil && ctx.Err() == nil:
			w.log.Debug().Err(err).Msg("cordon not read")
		case err != nil:
		case on && !told:
			w.log.Info().Str("by", order.By).Str("note", order.Note).Msg("no more steps are pulled, by order of an operator")
			if end != nil {
				end()
			}
			end, told = nil, true
		case !on && end == nil:
			if told {
				w.log.Info().Msg("steps are pulled again, by order of an operator")
			}
			end, told = begin(ctx, pull), false
		}
	}
	if end != nil {
		end()
	}
}

// begin runs f in a goroutine. The function that it returns ends f and waits for that.
func begin(ctx context.Context, f func(context.Context)) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		f(ctx)
	}()
	return func() {
		cancel()
		<-over
	}
}
