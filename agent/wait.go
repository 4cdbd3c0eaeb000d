package agent

import (
	"context"
	"time"
)

// pauses are what the updater waits with between two rounds.
type pauses struct {
	orders <-chan struct{} // somebody has given an order, or asks for something that the updater's goroutine makes
	moved  <-chan struct{} // something in the home may have changed
	quiet  time.Duration   // AGENT_WATCH_QUIET
	touch  func()          // has the next round look at the home
}

func newPauses(p pauses) (*pauses, error) { return complete(&p) }

// wait waits until notify or an order, for d at most, and no longer than again, unless that is 0. A change in the home has to rest, so
// that it ends the pause a little later. wait tells whether ctx let it.
func (p *pauses) wait(ctx context.Context, notify <-chan struct{}, d, again time.Duration) bool {
	if again > 0 {
		d = min(d, again)
	}
	end := time.Now().Add(d)
	for {
		t := time.NewTimer(time.Until(end))
		select {
		case <-p.moved:
			p.touch()
			if rest := time.Now().Add(p.quiet); rest.Before(end) {
				end = rest
			}
			t.Stop()
			continue
		case <-ctx.Done():
		case <-notify:
		case <-p.orders:
		case <-t.C:
		}
		t.Stop()
		return ctx.Err() == nil
	}
}

// sooner is the shorter of two pauses, of which 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}
