package tree

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"
)

// Reading is what a Scanner has found in a home.
type Reading struct {
	Files  Tree
	Stays  []Stay // by path
	Moving []Move // by path
}

// Stay is a file or directory that is there, and that cannot be carried to other servers. Nothing is known of its content, or
// of what is below it: it is no change of what a baseline says, and no deletion either.
type Stay struct {
	Path   string
	Why    string // what is the matter and what to do, as the rest of a sentence that begins with the path
	SHA256 string // of a file that was read all the same; empty otherwise
}

// Move is a file that was being written when it was looked at. It was not read, and what a baseline says of it holds.
type Move struct {
	Path string
	For  time.Duration // since it was first seen so
}

// Since is Diff from a baseline, without what stays behind or is being written.
func (r Reading) Since(baseline Tree) []Change {
	stays := make(map[string]bool, len(r.Stays))
	for _, s := range r.Stays {
		stays[s.Path] = true
	}
	for _, m := range r.Moving {
		stays[m.Path] = true
	}
	return slices.DeleteFunc(Diff(baseline, r.Files), func(c Change) bool { return c.Kind == Missing && covered(stays, c.Path) })
}

// Behind are the stays that are news beside a baseline: what somebody has carried to all servers, asked to, is none.
func (r Reading) Behind(baseline Tree) []Stay {
	return slices.DeleteFunc(slices.Clone(r.Stays), func(s Stay) bool { return s.SHA256 != "" && baseline[s.Path].SHA256 == s.SHA256 })
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

func (r *Reading) stays(name, why string) { r.Stays = append(r.Stays, Stay{Path: name, Why: why}) }

func (r *Reading) sort() {
	slices.SortFunc(r.Stays, func(a, b Stay) int { return strings.Compare(a.Path, b.Path) })
	slices.SortFunc(r.Moving, func(a, b Move) int { return strings.Compare(a.Path, b.Path) })
}

// unreadable says why a file could not be read, without its path, which the error has in front.
func unreadable(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	return "cannot be read (" + err.Error() + "): give the agent's user the right to read it, or name it in AGENT_IGNORE"
}
