package supervise

import (
	"slices"
	"strings"
)

// markVariable marks a child, and through inheritance everything that it starts: <owner>/<name of the child>.
const markVariable = "OMFLOW_BOOSTER_CHILD_OF"

// marked returns the environment of a child of owner. Without an owner, the child is not marked.
func marked(env []string, owner, child string) []string {
	if owner == "" {
		return env
	}
	prefix := markVariable + "="
	env = slices.DeleteFunc(slices.Clone(env), func(s string) bool { return strings.HasPrefix(s, prefix) })
	return append(env, prefix+owner+"/"+child)
}

// belongs tells whether a mark is one of owner's, or one of its child's if child is not empty. Up to version 1.0 a mark was the
// owner alone.
func belongs(mark, owner, child string) bool {
	if child != "" {
		return mark == owner+"/"+child
	}
	return mark == owner || strings.HasPrefix(mark, owner+"/")
}
