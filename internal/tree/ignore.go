package tree

import (
	"fmt"
	"path"
	"strings"

	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// ignored is what no other server needs, besides what belongs to each server alone (patch.IsLocal): what editors, version control and running
// programs leave behind, files of a patch under way, and the license, which is that of one machine.
var ignored = []string{
	".booster-*", ".git/", ".hg/", ".svn/", ".idea/", ".vscode/", "*.swp", "*.swx", "*~", ".#*", "#*#", "*.tmp", "*.bak",
	"*.pid", "*.log", "*.sock", "nohup.out", "omflow/syscom/license.bin",
}

// Ignore says which paths are not part of a tree. The zero value knows the built-in rules.
type Ignore struct{ more []string }

// NewIgnore adds patterns to the built-in rules. A pattern without a slash is compared with the name of a file or directory, one with a slash with its
// path; * and ? do not match a slash. A pattern that ends in a slash is for directories, and everything below them.
func NewIgnore(patterns []string) (Ignore, error) {
	var i Ignore
	for _, p := range patterns {
		p = strings.TrimPrefix(strings.TrimSpace(p), "./")
		if p == "" {
			continue
		}
		if _, err := path.Match(p, ""); err != nil || strings.HasPrefix(p, "/") {
			return i, fmt.Errorf("%q is not a pattern of paths relative to OMFLOW_HOME, such as *.cache or static/generated/", p)
		}
		i.more = append(i.more, p)
	}
	return i, nil
}

// Match tells whether a file, or a directory with all that is below it, is not part of a tree. The directories around it were asked for before.
func (i Ignore) Match(name string, dir bool) bool {
	return patch.IsLocal(name) || matches(ignored, name, dir) || matches(i.more, name, dir)
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

func matches(patterns []string, name string, dir bool) bool {
	for _, p := range patterns {
		only, isDir := strings.CutSuffix(p, "/")
		if isDir && !dir {
			continue
		}
		subject := name
		if !strings.Contains(only, "/") {
			subject = path.Base(name)
		}
		if ok, _ := path.Match(only, subject); ok {
			return true
		}
	}
	return false
}
