package agent

import (
	"maps"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/tree"
)

// treeBook is the file of the baseline.
type treeBook struct {
	Home      string        `json:"home"`
	Files     tree.Tree     `json:"files"`
	Published publishedTree `json:"published"`
	Places    []treePlace   `json:"places"` // the last baselines, each with its place in the order of patches

	Own map[string]ownPath `json:"own"` // paths that were changed and published here

	Version  string `json:"version"`  // of OMFLOW, of these files; empty: not known
	Released string `json:"released"` // digest of changes that an operator lets pass
}

// placesKept is how many of the baselines that a home has had an agent remembers.
const placesKept = 50

// treePlace is a place in the order of patches at which the home had its files as the digest says.
type treePlace struct {
	Stream time.Time `json:"stream"`
	Seq    uint64    `json:"seq"`
	Digest string    `json:"digest"`
}

// publishedTree is the last change that was found here and published.
type publishedTree struct {
	Digest string `json:"digest"` // of the changes
	Patch  string `json:"patch"`
	Sent   bool   `json:"sent"` // it is announced

	Repeats map[string]int `json:"repeats"` // what its paths are to have in Own when it is in place
}

// remember notes which paths of a patch that is in place come from here. A path that another one carries is anybody's.
func (b *treeBook) remember(id string, c patch.Content, now time.Time) {
	own := b.Published.Patch == id
	if b.Own == nil {
		b.Own = map[string]ownPath{}
	}
	each := func(name string) {
		delete(b.Own, name)
		if own {
			b.Own[name] = ownPath{now, b.Published.Repeats[name]}
		}
	}
	for _, f := range c.Files {
		each(f.Path)
	}
	for _, name := range c.Deletions {
		each(name)
	}
	maps.DeleteFunc(b.Own, func(_ string, p ownPath) bool { return now.Sub(p.Placed) > ownKept })
}

// of is the book of a home: another home has a beginning of its own.
func (b treeBook) of(home string) treeBook {
	if b.Home != home {
		return treeBook{Home: home}
	}
	return b
}
