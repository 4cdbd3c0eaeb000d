package tree

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
)

// Reading is what a Scanner has found in a home.
type Reading struct {
	Files Tree
	Stays []Stay // by path
}

// Stay is a file or directory that is there, and that cannot be carried to other servers. Nothing is known of its content, or of what is below it: it is
// no change of what a baseline says, and no deletion either.
type Stay struct {
	Path string
	Why  string // what is the matter and what to do, as the rest of a sentence that begins with the path
}

// Since is Diff from a baseline, without what stays behind.
func (r Reading) Since(baseline Tree) []Change {
	stays := make(map[string]bool, len(r.Stays))
	for _, s := range r.Stays {
		stays[s.Path] = true
	}
	return slices.DeleteFunc(Diff(baseline, r.Files), func(c Change) bool { return c.Kind == Missing && covered(stays, c.Path) })
}

// covered tells whether a path, or a directory around it, is in a set.
func covered(set map[string]bool, name string) bool {
	if len(set) == 0 {
		return false
	}
	for at, c := range name {
		if c == '/' && set[name[:at]] {
			return true
		}
	}
	return set[name]
}

func (r *Reading) stays(name, why string) { r.Stays = append(r.Stays, Stay{name, why}) }

func (r *Reading) sort() {
	slices.SortFunc(r.Stays, func(a, b Stay) int { return strings.Compare(a.Path, b.Path) })
}

// unreadable says why a file could not be read, without its path, which the error has in front.
func unreadable(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return "cannot be read (" + err.Error() + "): give the agent's user the right to read it, or name it in AGENT_IGNORE"
}
