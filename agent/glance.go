package agent

import (
	"io/fs"
	"os"
	"slices"

	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// glance is how the files that a patch replaces or deletes looked at one moment, without reading them; nil for one that is not there.
type glance map[string]fs.FileInfo

// glanceAt looks at the files of a patch in a home.
func glanceAt(home *os.Root, m patch.Manifest) glance {
	g := glance{}
	for _, f := range m.Files {
		g[f.Path] = lstat(home, f.Path)
	}
	for _, name := range m.Deletions {
		g[name] = lstat(home, name)
	}
	return g
}

// touched are the files that look different now, sorted.
func (g glance) touched(home *os.Root) (paths []string) {
	for name, was := range g {
		is := lstat(home, name)
		if !alike(was, is) {
			paths = append(paths, name)
		}
	}
	slices.Sort(paths)
	return paths
}

func alike(was, is fs.FileInfo) bool {
	if was == nil || is == nil {
		return was == nil && is == nil
	}
	return os.SameFile(was, is) && was.Size() == is.Size() && was.ModTime().Equal(is.ModTime())
}

// lstat treats what cannot be looked at as absent: the attempt to replace it finds out why.
func lstat(home *os.Root, name string) fs.FileInfo {
	info, err := home.Lstat(name)
	if err != nil {
		return nil
	}
	return info
}
