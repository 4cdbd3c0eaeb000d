// Package tree knows which files the home of an OMFLOW Server has: it reads them, and tells two readings apart. What belongs to one server
// alone, or is of no use to another, is not in a tree.
package tree

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"maps"
	"runtime"
	"slices"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// Tree is the files of a home, by path relative to it with forward slashes.
type Tree map[string]File

// File is one regular file.
type File struct {
	SHA256 string     `json:"sha256"` // lower-case hexadecimal
	Size   int64      `json:"size"`   // bytes
	Mode   patch.Mode `json:"mode"`

	Altered time.Time `json:"-"` // when anything about it was changed last, if it was read here
}

// Digest is the same for two trees with the same files: lower-case hexadecimal, 16 digits, for people to compare.
func (t Tree) Digest() string {
	sum := sha256.New()
	for _, name := range t.Names() {
		record(sum, name, t[name].SHA256, t[name].Mode)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

// Names are all paths, sorted.
func (t Tree) Names() []string { return slices.Sorted(maps.Keys(t)) }

// keepsModes tells whether this system stores the permission bits of a file. Windows makes them up.
const keepsModes = runtime.GOOS != "windows"

// newMode is the mode of a new file where the system keeps none.
const newMode patch.Mode = 0o644

// TakeModes gives each file the mode that it has in the baseline, where this system keeps none: what it shows instead is no change.
func (t Tree) TakeModes(baseline Tree) {
	if !keepsModes {
		t.takeModes(baseline)
	}
}

func (t Tree) takeModes(baseline Tree) {
	for name, f := range t {
		if f.Mode = newMode; baseline[name].SHA256 != "" {
			f.Mode = baseline[name].Mode
		}
		t[name] = f
	}
}

// Kinds of a change.
const (
	Added   = "added"
	Changed = "changed" // its content or mode
	Missing = "missing"
)

// Change is one file in which two trees differ.
type Change struct {
	Path string `json:"path"`
	Kind string `json:"kind"`
	Was  File   `json:"-"` // zero if Added
	Is   File   `json:"-"` // zero if Missing
}

// Diff is what has to change in one tree to make it the other one, by path.
func Diff(from, to Tree) (changes []Change) {
	for name, was := range from {
		is, there := to[name]
		switch {
		case !there:
			changes = append(changes, Change{Path: name, Kind: Missing, Was: was})
		case is.SHA256 != was.SHA256 || is.Mode != was.Mode:
			changes = append(changes, Change{Path: name, Kind: Changed, Was: was, Is: is})
		}
	}
	for name, is := range to {
		if _, there := from[name]; !there {
			changes = append(changes, Change{Path: name, Kind: Added, Is: is})
		}
	}
	slices.SortFunc(changes, func(a, b Change) int {
		if a.Path < b.Path {
			return -1
		}
		return 1
	})
	return changes
}

// DigestOf is the same for the same changes, and empty for none.
func DigestOf(changes []Change) string {
	if len(changes) == 0 {
		return ""
	}
	sum := sha256.New()
	for _, c := range changes {
		record(sum, c.Path+"\x00"+c.Was.SHA256, c.Is.SHA256, c.Is.Mode)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func record(sum hash.Hash, name, digest string, mode patch.Mode) {
	_, _ = fmt.Fprintf(sum, "%s\x00%s\x00%o\n", name, digest, mode)
}
