package agent

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/tree"
)

// How long some things may take, in AGENT_WATCH_QUIET.
const (
	restless = 12  // a file that never rests holds up all others for so long
	soon     = 60  // a change that comes so soon after the patch that carried the last one may be the server's
	atLast   = 120 // what has rested waits no longer for changes that are always new
)

const (
	tooOften  = 5                  // own patches of a path, each soon after the other, until it has to rest
	longest   = 24 * time.Hour     // that it has to rest
	ownKept   = 30 * longest       // how long a path that was published here is remembered
	mostFiles = 50_000             // in one patch
	mostBytes = patch.DefaultLimit // of them
)

// ownPath is what is remembered of a path that was changed and published here.
type ownPath struct {
	Placed  time.Time `json:"placed"`  // when its last patch was in place
	Repeats int       `json:"repeats"` // how often it was changed again soon after that
}

// sighting is when a change was first seen as it is.
type sighting struct {
	is tree.File
	at time.Time
}

// sifted is what a look has found, by what may become of it.
type sifted struct {
	changes []tree.Change // all that differs from the baseline
	going   []tree.Change // what may be published
	stays   []tree.Stay   // what may not, or cannot
	moving  string        // the first file that is being written; empty: none is
}

// sifter says what may become of each change. It belongs to the updater's goroutine.
type sifter struct {
	quiet        time.Duration                     // AGENT_WATCH_QUIET
	started      func() (begun, healthy time.Time) // the last start of the server; zero if there was none
	windowsThere func() bool                       // there are Windows servers

	read    time.Time           // of the last look
	seen    map[string]sighting // of each change
	waiting time.Time           // since when something has rested and waits for the rest; zero if nothing does
}

func newSifter(quiet time.Duration, started func() (begun, healthy time.Time), windowsThere func() bool) (*sifter, error) {
	return complete(&sifter{quiet: quiet, started: started, windowsThere: windowsThere})
}

// sift judges each path by itself: one that has to stay keeps nothing else from going.
func (sf *sifter) sift(found tree.Reading, book treeBook, read time.Time) sifted {
	sf.read = read
	s := sifted{changes: found.Since(book.Files), stays: found.Behind(book.Files)}
	sf.sight(s.changes)
	for _, m := range found.Moving {
		if m.For < restless*sf.quiet {
			if s.moving == "" {
				s.moving = m.Path
			}
			continue
		}
		s.stays = append(s.stays, tree.Stay{Path: m.Path, Why: "is written again and again: it is carried when it has rested for " +
			"AGENT_WATCH_QUIET; " +
			"if it never does, name it in AGENT_IGNORE"})
	}
	folded, there := map[string]string{}, sync.OnceValue(sf.windowsThere)
	for _, c := range s.changes {
		why := sf.hold(c, book)
		if why == "" {
			why = windows(c, folded, there)
		}
		if why == "" {
			s.going = append(s.going, c)
		} else {
			s.stays = append(s.stays, tree.Stay{Path: c.Path, Why: why})
		}
	}
	s.fit()
	slices.SortFunc(s.stays, func(a, b tree.Stay) int { return strings.Compare(a.Path, b.Path) })
	return s
}

// sight notes when each change was first seen as it is.
func (sf *sifter) sight(changes []tree.Change) {
	seen := make(map[string]sighting, len(changes))
	for _, c := range changes {
		was, ok := sf.seen[c.Path]
		if !ok || was.is.SHA256 != c.Is.SHA256 || was.is.Mode != c.Is.Mode {
			was = sighting{c.Is, sf.read}
		}
		seen[c.Path] = was
	}
	sf.seen = seen
}

// hold is the breaker: it says why a change stays that the server makes itself, each time that it is restarted for the patch with the
// last one.
func (sf *sifter) hold(c tree.Change, book treeBook) string {
	own, ok := book.Own[c.Path]
	if !ok {
		return ""
	}
	at := sf.madeAt(c)
	begun, over := sf.started()
	if own.Placed.After(over) { // it was started for this patch, and watched until it had proven itself
		over = own.Placed
	}
	if !begun.IsZero() && at.After(begun) && at.Before(over) {
		return "was changed again while the server started with the patch that carried it, so the server seems to write it: " +
			"name it in AGENT_IGNORE; if it was you, change it once more, or use `omflow-booster patch publish`"
	}
	if more := own.Repeats - tooOften; more >= 0 {
		rest := min(longest, soon*sf.quiet<<min(more, 12))
		if sf.read.Sub(at) < rest {
			return fmt.Sprintf("was changed again soon after each of the last %d patches that carried it: it is carried when it has rested for %s; "+
				"if a program writes it, name it in AGENT_IGNORE", own.Repeats, rest)
		}
	}
	return ""
}

// madeAt is when a change was made, as far as anybody knows.
func (sf *sifter) madeAt(c tree.Change) time.Time {
	if c.Kind == tree.Missing {
		return sf.seen[c.Path].at
	}
	return c.Is.Altered
}

// repeats counts, for each path that is about to be published, how often it was changed again soon after its last patch.
func (sf *sifter) repeats(changes []tree.Change, book treeBook) map[string]int {
	again := map[string]int{}
	for _, c := range changes {
		if own, ok := book.Own[c.Path]; ok && sf.madeAt(c).Sub(own.Placed) < soon*sf.quiet {
			again[c.Path] = own.Repeats + 1
		}
	}
	return again
}

// windows says what keeps a file from Windows servers, if they are there. folded are the paths that go, as Windows compares them.
func windows(c tree.Change, folded map[string]string, there func() bool) string {
	if c.Kind == tree.Missing {
		return ""
	}
	why := patch.WindowsProblem(c.Path)
	fold := strings.ToLower(c.Path)
	if other, ok := folded[fold]; ok && why == "" {
		why = fmt.Sprintf("is the same file as %s for a Windows server: rename one of them", other)
	}
	if why == "" || !there() {
		folded[fold] = c.Path
		return ""
	}
	return why
}

// fit leaves the largest files behind if all together are more than one patch carries. They go with the next.
func (s *sifted) fit() {
	var bytes int64
	for _, c := range s.going {
		bytes += c.Is.Size
	}
	if bytes <= mostBytes && len(s.going) <= mostFiles {
		return
	}
	bySize := slices.Clone(s.going)
	slices.SortStableFunc(bySize, func(a, b tree.Change) int { return int(a.Is.Size - b.Is.Size) })
	bytes = 0
	n := 0
	for n < len(bySize) && n < mostFiles && bytes+bySize[n].Is.Size <= mostBytes {
		bytes += bySize[n].Is.Size
		n++
	}
	why := fmt.Sprintf("waits for a patch after the next one: a patch carries at most %s and %d files", humanize.IBytes(mostBytes), mostFiles)
	for _, c := range bySize[n:] {
		s.stays = append(s.stays, tree.Stay{Path: c.Path, Why: why})
	}
	s.going = slices.SortedFunc(slices.Values(bySize[:n]), func(a, b tree.Change) int { return strings.Compare(a.Path, b.Path) })
}

// ripe are the changes that have rested for AGENT_WATCH_QUIET; if some have not yet, again says when to look next. Half an update is
// no version, so nothing goes before all rest, unless that takes for ever. since is when the changes were first seen as they are.
func (sf *sifter) ripe(s sifted, since time.Time) (ripe []tree.Change, again time.Duration) {
	quiet := sf.quiet
	if s.moving != "" {
		again = quiet
	}
	for _, c := range s.going {
		if rested := sf.read.Sub(sf.seen[c.Path].at); rested < quiet {
			again = max(again, quiet-rested)
		} else {
			ripe = append(ripe, c)
		}
	}
	if rested := sf.read.Sub(since); rested < quiet { // something was undone, or is gone again
		again = max(again, quiet-rested)
	}
	switch {
	case again == 0:
		sf.waiting = time.Time{}
		return ripe, 0
	case sf.waiting.IsZero():
		sf.waiting = sf.read
	case len(ripe) > 0 && sf.read.Sub(sf.waiting) > atLast*quiet:
		sf.waiting = time.Time{}
		return ripe, 0
	}
	return nil, again
}
