package agent

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/tree"
)

const driftShown = 1000 // changes, and paths that stay behind, that an agent tells of

// findings are what the last look at the home has found. The updater's goroutine writes them, and others ask for them.
type findings struct {
	log zerolog.Logger

	mu      sync.Mutex
	changes []tree.Change
	stays   []tree.Stay
	digest  string    // of the changes that may be published
	since   time.Time // when they were first seen as they are
	moving  string    // the file that is being written, and that the others wait for
	held    string    // why they are not published until somebody orders it
}

// note keeps what a look at some moment has found, and since when it is as it is.
func (f *findings) note(s sifted, read time.Time) {
	digest := tree.DigestOf(s.going)
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(s.stays) > 0 && !slices.Equal(s.stays, f.stays) {
		f.log.Warn().Int("paths", len(s.stays)).Str("first", s.stays[0].Path).Str("why", s.stays[0].Why).
			Msg("not everything in the home is carried to other servers")
	}
	if digest != f.digest || len(s.changes) != len(f.changes) {
		f.digest, f.since = digest, read
		if len(s.changes) > 0 {
			f.log.Warn().Int("files", len(s.changes)).Str("first", s.changes[0].Path).Msg("files in the home were changed here")
		}
	}
	f.changes, f.stays, f.moving = s.changes, s.stays, s.moving
}

// holdBack keeps why changes are held back; empty: they are not.
func (f *findings) holdBack(why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if why != "" && why != f.held {
		f.log.Error().Int("files", len(f.changes)).Str("why", why).
			Msg("changes are held back: nothing of them is published before somebody orders it with `omflow-booster nodes drift NODE --publish`")
	}
	f.held = why
}

// mayRelease fails unless the changes that are held back are those of the digest.
func (f *findings) mayRelease(digest string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.held == "":
		return errors.New("nothing is held back here")
	case f.digest != digest:
		return errors.New("files have changed again since you looked; look again")
	}
	return nil
}

// all are all changes that the last look has found.
func (f *findings) all() []tree.Change {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.changes)
}

// goingDigest is that of the changes that may be published; empty: there are none.
func (f *findings) goingDigest() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.digest
}

// unchangedSince is when the changes were first seen as they are.
func (f *findings) unchangedSince() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.since
}

// describe fills in what the heartbeat says of changes.
func (f *findings) describe(state *bus.AgentState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	state.Drift, state.Stays, state.Held = len(f.changes), len(f.stays), f.held
	state.Moving = strings.ToValidUTF8(f.moving, "\uFFFD")
	if len(f.stays) > 0 {
		state.StaysFirst = told(f.stays[0])
	}
}

// fill fills in what others may ask of changes.
func (f *findings) fill(answer *bus.Drift, published publishedTree) {
	f.mu.Lock()
	defer f.mu.Unlock()
	answer.Total, answer.StaysTotal = len(f.changes), len(f.stays)
	answer.Moving = strings.ToValidUTF8(f.moving, "\uFFFD")
	for _, s := range f.stays[:min(len(f.stays), driftShown)] {
		answer.Stays = append(answer.Stays, told(s))
	}
	if answer.Total == 0 {
		return
	}
	answer.Held, answer.Digest = f.held, f.digest
	since := f.since
	answer.Since = &since
	if published.Sent && published.Digest == f.digest {
		answer.Published = published.Patch
	}
	for _, c := range f.changes[:min(answer.Total, driftShown)] {
		answer.Files = append(answer.Files, bus.DriftFile{Path: c.Path, Kind: c.Kind})
	}
}

// told is a path as it may stand in a message, which is UTF-8.
func told(s tree.Stay) bus.DriftStay {
	return bus.DriftStay{Path: strings.ToValidUTF8(s.Path, "\uFFFD"), Why: s.Why}
}
