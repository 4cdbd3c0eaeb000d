package fleet

import (
	"slices"
	"time"
)

// Span is a time during which the answer to every question was yes, from the first answer to the last question: an answer was true at
// some moment after its question. So a span is never longer than what it measures, and of a single yes nothing is left.
type Span struct {
	From, Until time.Time
	Open        bool // so was the last answer
}

// Extend adds an answer to the spans.
func Extend(spans []Span, asked, answered time.Time, yes bool) []Span {
	last := len(spans) - 1
	switch {
	case yes && last >= 0 && spans[last].Open:
		spans[last].Until = asked
	case yes:
		spans = append(spans, Span{answered, answered, true})
	case last >= 0:
		spans[last].Open = false
	}
	return spans
}

// Overlap is for how long since a moment both answers were yes at the same time.
func Overlap(one, other []Span, since time.Time) (both time.Duration) {
	for _, a := range one {
		for _, b := range other {
			from, until := slices.MaxFunc([]time.Time{a.From, b.From, since}, time.Time.Compare), a.Until
			if b.Until.Before(until) {
				until = b.Until
			}
			both += max(0, until.Sub(from))
		}
	}
	return both
}
