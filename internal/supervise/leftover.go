package supervise

import (
	"slices"
	"strings"
)

// markVariable marks a child, and through inheritance everything that it starts, as belonging to one service.
const markVariable = "OMFLOW_BOOSTER_CHILD_OF"

// Mark adds to an environment what EndLeftovers looks for. owner identifies the service beyond its own life, and no other.
func Mark(env []string, owner string) []string {
	prefix := markVariable + "="
	env = slices.DeleteFunc(slices.Clone(env), func(s string) bool { return strings.HasPrefix(s, prefix) })
	return append(env, prefix+owner)
}
