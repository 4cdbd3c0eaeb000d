package tree

import (
	"fmt"
	"path"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// ignored is what no other server needs, besides what belongs to each server alone (patch.IsLocal).
var ignored = mustRules(
	// Version control and editors.
	".git/", ".hg/", ".svn/", ".idea/", ".vscode/", "*.swp", "*.swx", "*~", ".#*", "#*#", "*.tmp", "*.bak",
	// Programs that run.
	"*.pid", "*.log", "*.log.*", "*.sock", "nohup.out",
	// Django: uploads on their way (FILE_UPLOAD_TEMP_DIR, which OMFLOW sets to its home), sessions and caches in files, databases in files.
	"tmp*.upload*", "sessionid????????????????*", "./sessions/", "*.djcache", "*.sqlite3", "*.sqlite3-*",
	// OMFLOW: its database in a file with what SQLite has beside it, the script of an update, which the server runs and removes,
	// and the license, which is that of one machine.
	"db.omflow-*", "./tmp.py", "omflow/syscom/license.bin",
)

// temporary are the files of a patch under way.
const temporary = ".booster-"

// Ignore says which paths are not part of a tree. The zero value knows the built-in rules.
type Ignore struct{ more []rule }

// NewIgnore adds patterns to the built-in rules. They mean what they mean in a .gitignore: without a slash in front of its end
// a pattern is compared with the name of a file or directory, otherwise with its path; * and ? do not match a slash, ** does; a
// slash at the end is for directories, and everything below them; ! takes back what patterns before it, and the built-in ones,
// say of a path. A pattern that can match nothing is an error.
func NewIgnore(patterns []string) (Ignore, error) {
	var i Ignore
	for _, p := range patterns {
		if p = strings.TrimSpace(p); p == "" {
			continue
		}
		r, err := newRule(p)
		if err != nil {
			return i, err
		}
		i.more = append(i.more, r)
	}
	return i, nil
}

// Match tells whether a file, or a directory with all that is below it, is not part of a tree. The directories around it were
// asked for before.
func (i Ignore) Match(name string, dir bool) bool {
	base := path.Base(name)
	if strings.HasPrefix(base, temporary) || patch.IsLocal(name) {
		return true
	}
	for at := len(i.more) - 1; at >= 0; at-- { // the last one that matches holds
		if i.more[at].matches(name, base, dir) {
			return !i.more[at].not
		}
	}
	for at := range ignored {
		if ignored[at].matches(name, base, dir) {
			return true
		}
	}
	return false
}

// MatchPath is Match for a file, and all directories around it.
func (i Ignore) MatchPath(name string) bool {
	for at, c := range name {
		if c == '/' && i.Match(name[:at], true) {
			return true
		}
	}
	return i.Match(name, false)
}

// rule is one pattern. Most are plain, or have one star at an end: a home of 50,000 files asks millions of times.
type rule struct {
	glob           string
	prefix, suffix string // what is before and after the only star of a glob
	star           bool
	plain          bool
	not, dir, path bool // takes back; for directories; is compared with the whole path
}

func newRule(pattern string) (rule, error) {
	var r rule
	r.glob, r.not = strings.CutPrefix(pattern, "!")
	r.glob, r.path = strings.CutPrefix(r.glob, "./")
	r.glob, r.dir = strings.CutSuffix(r.glob, "/")
	r.path = r.path || strings.Contains(r.glob, "/")
	for part := range strings.SplitSeq(r.glob, "/") {
		if part == "" || part == "." || part == ".." || strings.Contains(part, `\`) {
			return r, wrongPattern(pattern)
		}
	}
	if !doublestar.ValidatePattern(r.glob) {
		return r, wrongPattern(pattern)
	}
	switch special := strings.Count(r.glob, "*"); {
	case strings.ContainsAny(r.glob, "?[]{}") || special > 1 || r.path && special > 0:
	case special == 1:
		r.star = true
		r.prefix, r.suffix, _ = strings.Cut(r.glob, "*")
	default:
		r.plain = true
	}
	return r, nil
}

func wrongPattern(pattern string) error {
	return fmt.Errorf(
		`%q is not a pattern of paths relative to OMFLOW_HOME, as in a .gitignore, such as *.cache, static/generated/, ./top.txt or !keep.log`,
		pattern)
}

func mustRules(patterns ...string) (rules []rule) {
	for _, p := range patterns {
		r, err := newRule(p)
		if err != nil {
			panic(err)
		}
		rules = append(rules, r)
	}
	return rules
}

func (r *rule) matches(name, base string, dir bool) bool {
	if r.dir && !dir {
		return false
	}
	subject := base
	if r.path {
		subject = name
	}
	switch {
	case r.plain:
		return subject == r.glob
	case r.star:
		return len(subject) >= len(r.prefix)+len(r.suffix) && strings.HasPrefix(subject, r.prefix) && strings.HasSuffix(subject, r.suffix)
	}
	return doublestar.MatchUnvalidated(r.glob, subject)
}
