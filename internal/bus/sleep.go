package bus

import (
	"context"
	"time"
)

// Sleep waits for d and tells whether ctx let it.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Wait waits for a notification, for d at most, and tells whether ctx let it.
func Wait(ctx context.Context, notify <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-notify:
	case <-t.C:
	}
	return true
}
