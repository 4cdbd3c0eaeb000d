package rollout

import (
	"fmt"
	"strings"
	"time"
)

// window is a time of day, from inclusive, to exclusive; it may go over midnight.
type window struct {
	from, to time.Duration // since midnight
	always   bool
}

// parseWindow reads "22:00-05:00". An empty text is always.
func parseWindow(text string) (window, error) {
	if text == "" {
		return window{always: true}, nil
	}
	from, to, ok := strings.Cut(text, "-")
	begin, err1 := time.Parse("15:04", strings.TrimSpace(from))
	end, err2 := time.Parse("15:04", strings.TrimSpace(to))
	if !ok || err1 != nil || err2 != nil {
		return window{}, fmt.Errorf("%q is not a time of day such as 22:00-05:00", text)
	}
	since := func(t time.Time) time.Duration {
		return time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	}
	return window{from: since(begin), to: since(end), always: begin.Equal(end)}, nil
}

// open tells whether a moment is in the window, by the clock of its own time zone.
func (w window) open(now time.Time) bool {
	at := time.Duration(now.Hour())*time.Hour + time.Duration(now.Minute())*time.Minute
	switch {
	case w.always:
		return true
	case w.from < w.to:
		return w.from <= at && at < w.to
	default:
		return at >= w.from || at < w.to
	}
}
