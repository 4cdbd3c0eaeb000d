// Package audit compares the copies of every stream, because a NATS server does not notice that a file of its store was cut off,
// has flipped bytes or is gone: such a member would lead one day, and messages would be missing.
//
// The Auditor runs in the active Booster, with what it needs of that as the interface Booster. A Replica runs in every member:
// it says what its copies hold, and has its member start again without one that differs.
//
// The Auditor compares counts every round. It compares contents, see compare.go, when a member has started since the last
// comparison, when its Booster has just become active, when counts differ, and otherwise rarely. A copy that differs from two
// equal ones is rebuilt, one at a time. If it is the active Booster's own copy, that Booster first hands over; the next active
// one begins anew and finds the same.
package audit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

const (
	roundEvery     = time.Second
	recountedAfter = time.Minute      // after counts that differed although the contents did not
	unresolvedFor  = time.Minute      // before copies that differ, and could not be repaired, are compared again
	rebuildAfter   = time.Minute      // a rebuild that has not begun is asked for again
	standsAfter    = 20 * time.Second // without any change, a copy that is behind is rebuilt
	askTimeout     = 5 * time.Second  // for one answer of a member
	majorityOf     = 3                // copies: a majority of them is there while one is behind
)

// Booster is what the audit needs of the Booster in which it runs.
type Booster interface {
	// Active tells whether this Booster is active, and no other one can be.
	Active() bool
	// Cluster is what this Booster saw last of the cluster; nil before it has seen anything.
	Cluster() *Cluster
	// HandOver makes the other Booster active.
	HandOver(ctx context.Context) error
	// Request asks a member in the system account.
	Request(ctx context.Context, subject string, question []byte) (answer []byte, err error)
}

// Config says for whom and how often.
type Config struct {
	Name  string        // of this Booster in the cluster
	Every time.Duration // how often the contents of every copy are compared without a reason
	Log   zerolog.Logger
}

// Auditor compares the copies while its Booster is active.
type Auditor struct {
	cfg     Config
	booster Booster
	verdict atomic.Pointer[Verdict]
	memory
}

// New makes an Auditor; it asks nobody before Run.
func New(cfg Config, booster Booster) (*Auditor, error) {
	switch {
	case booster == nil:
		return nil, errors.New("audit: no Booster; give the one that is audited")
	case cfg.Name == "":
		return nil, errors.New("audit: no Name; give that of the Booster in the cluster")
	case cfg.Every <= 0:
		return nil, fmt.Errorf("audit: Every is %s; give a positive duration", cfg.Every)
	}
	return &Auditor{cfg: cfg, booster: booster, memory: newMemory()}, nil
}

// memory is what an Auditor knows of one time in which its Booster is active. Only Run uses it.
type memory struct {
	passed     map[string]map[string]string // stream to member to the life of the member in which its contents were found equal
	at         map[string]time.Time         // stream: contents compared last
	recount    map[string]time.Time         // stream: contents compared last because counts differed
	mismatch   map[string]int               // stream: rounds in a row in which counts differed
	unresolved map[string]string            // stream: why copies that differ are left as they are
	stands     map[string]standing          // copies that are behind, by stream and member
	rebuilding *rebuildJob
}

func newMemory() memory {
	return memory{
		passed: map[string]map[string]string{}, at: map[string]time.Time{}, recount: map[string]time.Time{},
		mismatch: map[string]int{}, unresolved: map[string]string{}, stands: map[string]standing{},
	}
}

// standing is a copy that is behind: how it looked, and since when it has looked so.
type standing struct {
	copy  replicaCopy
	since time.Time
}

// rebuildJob is the one copy that is being rebuilt.
type rebuildJob struct {
	stream, member, life string // of the member before
	why                  string
	since                time.Time
}

// Run compares the copies while the Booster is active, until ctx ends.
func (a *Auditor) Run(ctx context.Context) {
	a.memory = newMemory()
	last := ""
	for bus.Sleep(ctx, roundEvery) {
		c := a.booster.Cluster()
		if c == nil || !a.booster.Active() || c.Leader != a.cfg.Name || c.Growing {
			a.memory = newMemory()
			a.verdict.Store(nil)
			continue
		}
		err := a.round(ctx, c)
		if err != nil && ctx.Err() == nil && err.Error() != last {
			a.cfg.Log.Warn().Err(err).Msg("replicas not compared")
		}
		last = fmt.Sprint(err)
	}
}

// round compares what is due.
func (a *Auditor) round(ctx context.Context, c *Cluster) (err error) {
	states, silent := a.states(ctx, c)
	if h := a.rebuilding; h != nil && !slices.ContainsFunc(c.Members, func(m Member) bool { return m.Name == h.member }) {
		a.rebuilding = nil // it was dismissed
	}
	for _, stream := range slices.Sorted(maps.Keys(c.Streams)) {
		if member := a.standsStill(stream, c.Streams[stream], states); member != "" {
			a.cfg.Log.Error().Str("stream", stream).Str("member", member).Dur("for", standsAfter).
				Msg("copy is behind and does not come forward: it is rebuilt")
			a.rebuild(ctx, stream, member, "stood still", states)
		}
		group, ok := complete(stream, c.Streams[stream], states)
		if !ok || !a.due(stream, group, states) {
			continue
		}
		var found comparison
		if found, err = a.compare(ctx, stream, group); err != nil {
			err = fmt.Errorf("copies of %s: %w", stream, err)
			break
		}
		a.at[stream], a.mismatch[stream] = time.Now(), 0
		delete(a.unresolved, stream)
		if !found.sound() {
			delete(a.passed, stream) // due again, however this ends
			a.resolve(ctx, stream, found, states)
			break
		}
		a.pass(ctx, stream, group, states)
	}
	a.say(c, states)
	return errors.Join(err, silent)
}

// say keeps what there is against a takeover.
func (a *Auditor) say(c *Cluster, states map[string]replicaState) {
	var said Verdict
	said.pending, said.Soon = a.pending(c, states)
	for _, text := range a.unresolved {
		said.Finding = text
	}
	if a.rebuilding != nil {
		said.Finding = a.rebuilding.text()
	}
	a.verdict.Store(&said)
}

// complete tells whether every copy of a stream is there and claims to be complete, and who holds them. Heartbeats are not
// compared: each member lets them expire by its own clock, and they are worth nothing.
func complete(stream string, s Stream, states map[string]replicaState) (group []string, ok bool) {
	if stream == bus.BucketStream(bus.BucketNodes) || s.Leader == "" {
		return nil, false
	}
	group = []string{s.Leader}
	for _, m := range s.Followers {
		group = append(group, m.Name)
	}
	for _, member := range group {
		if _, there := states[member].Streams[stream]; !there || !s.isCurrent(member) {
			return nil, false
		}
	}
	return group, len(group) > 1
}

// due tells whether the contents of a stream have to be compared now.
func (a *Auditor) due(stream string, group []string, states map[string]replicaState) bool {
	if a.unresolved[stream] != "" && time.Since(a.at[stream]) < unresolvedFor {
		return false
	}
	if h := a.rebuilding; h != nil && h.stream == stream && h.overdue() {
		return true // it may have recovered by itself
	}
	first := states[group[0]].Streams[stream]
	together, differ := true, false
	for _, member := range group {
		if !states[member].comparable() {
			return false
		}
	}
	for _, member := range group {
		if a.passed[stream][member] != states[member].Life {
			return true
		}
		c := states[member].Streams[stream]
		together = together && c.Applied == first.Applied
		differ = differ || c != first
	}
	switch {
	case together && differ:
		a.mismatch[stream]++
	case together:
		a.mismatch[stream] = 0
	}
	if a.mismatch[stream] > 1 && time.Since(a.recount[stream]) > recountedAfter {
		a.recount[stream] = time.Now()
		a.cfg.Log.Warn().Str("stream", stream).Msg("counts of the copies differ")
		return true
	}
	return time.Since(a.at[stream]) > a.cfg.Every
}

// pass notes that all copies of a stream are equal, and lets the copies go that were put aside.
func (a *Auditor) pass(ctx context.Context, stream string, group []string, states map[string]replicaState) {
	a.passed[stream] = map[string]string{}
	for _, member := range group {
		a.passed[stream][member] = states[member].Life
		if slices.Contains(states[member].Aside, stream) {
			if err := a.order(ctx, askDiscard, member, stream); err != nil {
				a.cfg.Log.Warn().Err(err).Str("member", member).Msg("copy that was put aside not removed")
			}
		}
	}
	if h := a.rebuilding; h != nil && h.stream == stream {
		log := a.cfg.Log.Info().Str("member", h.member).Str("stream", stream).Dur("took", time.Since(h.since))
		switch {
		case a.passed[stream][h.member] != h.life:
			log.Msg("copy rebuilt and found equal")
			a.rebuilding = nil
		case h.overdue():
			log.Msg("copy found equal without a rebuild")
			a.rebuilding = nil
		}
	}
}

// resolve has the member that differs from the others start again without its copy.
func (a *Auditor) resolve(ctx context.Context, stream string, found comparison, states map[string]replicaState) {
	log := a.cfg.Log.Error().Str("stream", stream).Strs("members", found.members()).
		Int("messages", found.messages).Uint64("first", found.first)
	switch h := a.rebuilding; {
	case found.undecided:
		a.unresolved[stream] = fmt.Sprintf("the copies of %s differ, and nobody knows which is right", stream)
		log.Msg("copies differ without a majority that is right: nothing is repaired")
	case h != nil && (h.member != found.odd || h.stream != stream): // one at a time
		a.unresolved[stream] = fmt.Sprintf("%s of %s differs, and another copy is rebuilt first", stream, found.odd)
	case h != nil && h.life == states[found.odd].Life && !h.overdue():
		// It was told, and has not stopped yet.
	case found.odd == a.cfg.Name:
		a.unresolved[stream] = "the active's own copy of " + stream + " differs: it hands over"
		log.Msg("own copy differs from the others: handing over")
		if err := a.booster.HandOver(ctx); err != nil {
			a.cfg.Log.Error().Err(err).Msg("not handed over")
		}
	default:
		if _, ok := complete(stream, a.booster.Cluster().Streams[stream], states); !ok {
			return // comparing took its time: somebody has gone meanwhile
		}
		log.Msg("copy differs from the others: it is rebuilt")
		a.rebuild(ctx, stream, found.odd, "differed", states)
	}
}

// rebuild has a member start again without its copy of a stream. A member that could not be told is not being rebuilt: what is
// wrong is found again.
func (a *Auditor) rebuild(ctx context.Context, stream, member, why string, states map[string]replicaState) {
	if !a.booster.Active() {
		return // frozen since the comparison: the other Booster may be giving such orders now
	}
	a.rebuilding = &rebuildJob{stream, member, states[member].Life, why, time.Now()}
	if err := a.order(ctx, askRebuild, member, stream); err != nil {
		a.cfg.Log.Error().Err(err).Str("member", member).Msg("rebuild refused")
		a.rebuilding = nil
		a.unresolved[stream] = fmt.Sprintf("%s of %s %s, and could not be rebuilt", stream, member, why)
		delete(a.stands, standingKey(stream, member))
	}
}

func standingKey(stream, member string) string { return stream + " " + member }

// overdue tells whether a rebuild should have begun by now.
func (h rebuildJob) overdue() bool { return time.Since(h.since) >= rebuildAfter }

func (h rebuildJob) text() string {
	return fmt.Sprintf("%s is being rebuilt: %s %s", h.member, h.stream, h.why)
}

// standsStill finds a member that is there and has not come forward with its copy of a stream for standsAfter, while all others
// have everything. A Booster that was cut off as the active takes back what it was given meanwhile and nobody acknowledged, at
// two seconds for each message (nats-server 2.15.2): an hour for what came in seconds, in which nobody could take over.
func (a *Auditor) standsStill(stream string, s Stream, states map[string]replicaState) (behind string) {
	for _, m := range s.Followers {
		c, there := states[m.Name].Streams[stream]
		switch {
		case !there:
			return "" // somebody is away: what the others have is all there is
		case s.isCurrent(m.Name):
			delete(a.stands, standingKey(stream, m.Name))
			continue
		case behind != "":
			return "" // two are behind
		}
		behind = m.Name
		key := standingKey(stream, behind)
		if seen, known := a.stands[key]; !known || seen.copy != c {
			a.stands[key] = standing{c, time.Now()}
		}
	}
	rebuilding := a.rebuilding != nil && !a.rebuilding.overdue()
	if behind == "" || rebuilding || s.Leader != a.cfg.Name || len(s.Followers) != majorityOf-1 ||
		time.Since(a.stands[standingKey(stream, behind)].since) < standsAfter {
		return ""
	}
	return behind
}

// pending says which copy was not compared since its member was started, and whether that member is there.
func (a *Auditor) pending(c *Cluster, states map[string]replicaState) (text string, there bool) {
	for _, stream := range slices.Sorted(maps.Keys(c.Streams)) {
		for _, m := range c.Streams[stream].Followers {
			if s, answers := states[m.Name]; stream != bus.BucketStream(bus.BucketNodes) &&
				(!answers || s.comparable() && a.passed[stream][m.Name] != s.Life) {
				text, there = fmt.Sprintf("%s of %s is not compared yet", stream, m.Name), there || answers && a.unresolved[stream] == ""
			}
		}
	}
	return text, there
}

// states asks every member for its copies. Who does not answer is not in the result but in the error.
func (a *Auditor) states(ctx context.Context, c *Cluster) (states map[string]replicaState, silent error) {
	states = map[string]replicaState{}
	for _, m := range c.Members {
		if m.Name == "" || !m.Online {
			continue
		}
		var s replicaState
		if err := a.ask(ctx, askState, m.Name, nil, &s); err != nil {
			silent = errors.Join(silent, err)
			continue
		}
		states[m.Name] = s
	}
	return states, silent
}
