package patch

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// SettingsFile belongs to each server alone. A new server gets that of another one, because it works on the same database.
const SettingsFile = "omflow/settings.py"

// A home has files that belong to one server: its settings, logs, uploads and database. A patch never carries them.
// The names are compared without regard to case, because the file system of a Windows server does not regard it either.
var (
	localFiles = []string{SettingsFile, "db.omflow"}
	localTrees = []string{"logs", "uploads"}
)

// IsLocal tells whether path belongs to one server and is never part of a patch.
func IsLocal(name string) bool {
	name = strings.ToLower(name)
	for _, f := range localFiles {
		if name == f {
			return true
		}
	}
	first, _, _ := strings.Cut(name, "/")
	for _, tree := range localTrees {
		if first == tree {
			return true
		}
	}
	return IsGenerated(name)
}

// IsGenerated tells whether Python writes the file itself, on every server for itself.
func IsGenerated(name string) bool {
	name = strings.ToLower(name)
	if strings.HasSuffix(name, ".pyc") {
		return true
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "__pycache__" {
			return true
		}
	}
	return false
}

// checkPath refuses a path that is not plainly a file below the home of this server.
func checkPath(name string) error {
	if name == "" {
		return invalid("a file has an empty path")
	}
	why := PathProblem(name)
	if why == "" && onWindows {
		why = WindowsProblem(name)
	}
	if why != "" {
		return invalid("path %.300q %s", name, why)
	}
	if IsLocal(name) {
		return invalid("%s belongs to each server alone and is never patched", name)
	}
	return nil
}

// PathProblem says why no server can be given a file with this path, as the rest of a sentence that begins with the path. It is
// empty for a path that is plainly that of a file below the home.
func PathProblem(name string) string {
	switch {
	case name == "" || name == ".":
		return "is empty"
	case len(name) > maxPathBytes:
		return fmt.Sprintf("is longer than %d bytes", maxPathBytes)
	case strings.HasPrefix(name, "/"):
		return "is absolute; paths are relative to OMFLOW_HOME"
	case !utf8.ValidString(name):
		return "has a name that is not UTF-8: rename it"
	case strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar }):
		return "has characters in its name that cannot be printed: rename it"
	case !fs.ValidPath(name):
		return "is not a plain path below OMFLOW_HOME (it may not contain \"..\", \".\" or \"//\")"
	}
	return ""
}

// pathSet finds paths that get in each other's way, on this server.
type pathSet struct{ byFold map[string]string }

func newPathSet() pathSet { return pathSet{make(map[string]string)} }

// key is the same for paths that are the same file.
func (s pathSet) key(name string) string {
	if onWindows {
		return strings.ToLower(name)
	}
	return name
}

func (s pathSet) add(name string, whole bool) error {
	if err := checkPath(name); err != nil && (!whole || name != SettingsFile) {
		return err
	}
	fold := s.key(name)
	if other, ok := s.byFold[fold]; ok {
		if other == name {
			return invalid("path %q is there twice", name)
		}
		return invalid("paths %q and %q are the same file on a Windows server", other, name)
	}
	s.byFold[fold] = name
	return nil
}

// checkNesting refuses a file below another one, of those that a patch brings. If one of the two goes away, the patch makes a
// directory of a file, or back.
func (s pathSet) checkNesting(files []File) error {
	brought := make(map[string]bool, len(files))
	for _, f := range files {
		brought[s.key(f.Path)] = true
	}
	for _, f := range files {
		for dir := path.Dir(s.key(f.Path)); dir != "."; dir = path.Dir(dir) {
			if brought[dir] {
				return invalid("%q is a file and the directory of %q", s.byFold[dir], f.Path)
			}
		}
	}
	return nil
}
