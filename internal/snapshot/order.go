package snapshot

import (
	"cmp"
	"slices"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// takeOrder sorts streams so that what moves from one to the other while they are taken is found in both rather than in none: a step
// goes to DEAD, and a patch is announced after its artifact was stored. A restore goes the other way round, so that an
// artifact is there before its announcement, and CONTROL comes last: who finds it finds everything (bus.Ensure).
func takeOrder(streams []string) {
	slices.SortFunc(streams, func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
}

func rank(stream string) int {
	switch stream {
	case bus.BucketStream(bus.BucketControl):
		return 0
	case bus.StreamWork:
		return 2
	case bus.StreamDead:
		return 3
	case bus.StreamPatch:
		return 4
	}
	if bus.IsObjectStream(stream) {
		return 6
	}
	return 5
}
