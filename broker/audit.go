package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// The replica audit. The active compares the copies of every stream, because a server does not notice that a file of its store
// was cut off or has gone: such a member would lead one day, and half of the queue would be missing.
//
// Counts are compared every round. Contents are compared, see audit_compare.go, when a member has been started since they were,
// when the active is new, when counts differ, and otherwise rarely. A copy that differs from two equal ones is rebuilt
// (audit_rebuild.go), one at a time. If it is the active's own, the active first hands over; the next one begins anew and finds
// the same.
const (
	auditEvery     = time.Second
	recountedAfter = time.Minute // after counts that differed although the contents did not
	unresolvedFor  = time.Minute // before copies that differ, and could not be repaired, are compared again
	comparedWithin = 5 * time.Second
	rebuildAfter   = time.Minute      // a rebuild that has not begun is asked for again
	standsAfter    = 20 * time.Second // without any change, a copy that is behind is rebuilt
)

// verdict is what the audit says of the copies; nil before it has said anything.
type verdict struct {
	finding string // why the other Booster must not take over; empty when nothing differs
	pending string // what is not compared yet
	soon    bool   // and will be in a moment: whose copy it is has been started
}

// compared says whether the audit has anything against a takeover.
func (v *verdict) compared() string {
	switch {
	case v == nil:
		return "no automatic takeover yet: copies are not compared yet"
	case v.pending != "":
		return "no automatic takeover yet: " + v.pending
	}
	return bus.TakeoverOK
}

// auditor is the audit of one active Booster, as long as it is active.
type auditor struct {
	*Broker
	passed     map[string]map[string]string // stream to member to the life of the member in which its contents were found equal
	at         map[string]time.Time         // stream: contents compared last
	recount    map[string]time.Time         // stream: contents compared last because counts differed
	mismatch   map[string]int               // stream: rounds in a row in which counts differed
	unresolved map[string]string            // stream: why copies that differ are left as they are
	stands     map[string]standing          // copies that are behind, by stream and member
	rebuilding *rebuildJob
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

// auditReplicas compares the copies while this Booster is active, until ctx ends.
func (b *Broker) auditReplicas(ctx context.Context) {
	a := newAuditor(b)
	last := ""
	for bus.Sleep(ctx, auditEvery) {
		v := b.view.Load()
		if v == nil || !b.active() || v.metaLeader != b.name() || b.growing.Load() {
			a = newAuditor(b)
			b.audit.Store(nil)
			continue
		}
		err := a.round(ctx, v)
		if err != nil && ctx.Err() == nil && err.Error() != last {
			b.log.Warn().Err(err).Msg("replicas not compared")
		}
		last = fmt.Sprint(err)
	}
}

func newAuditor(b *Broker) *auditor {
	return &auditor{
		Broker: b, passed: map[string]map[string]string{}, at: map[string]time.Time{}, recount: map[string]time.Time{},
		mismatch: map[string]int{}, unresolved: map[string]string{}, stands: map[string]standing{},
	}
}

// round compares what is due.
func (a *auditor) round(ctx context.Context, v *view) (err error) {
	states, silent := a.states(ctx, v)
	if h := a.rebuilding; h != nil && !slices.ContainsFunc(v.peers, func(p peer) bool { return p.name == h.member }) {
		a.rebuilding = nil // it was dismissed
	}
	for _, stream := range slices.Sorted(maps.Keys(v.streams)) {
		if member := a.standsStill(stream, v.streams[stream], states); member != "" {
			a.log.Error().Str("stream", stream).Str("member", member).Dur("for", standsAfter).
				Msg("copy is behind and does not come forward: it is rebuilt")
			a.rebuild(ctx, stream, member, "stood still", states)
		}
		group, ok := complete(stream, v.streams[stream], states)
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
	a.say(v, states)
	return errors.Join(err, silent)
}

// say keeps for status what there is against a takeover.
func (a *auditor) say(v *view, states map[string]replicaState) {
	var said verdict
	said.pending, said.soon = a.pending(v, states)
	for _, text := range a.unresolved {
		said.finding = text
	}
	if a.rebuilding != nil {
		said.finding = a.rebuilding.text()
	}
	a.audit.Store(&said)
}

// complete tells whether every copy of a stream is there and claims to be complete, and who holds them. Heartbeats are not
// compared: each member lets them expire by its own clock, and they are worth nothing.
func complete(stream string, s streamView, states map[string]replicaState) (group []string, ok bool) {
	if stream == bus.BucketStream(bus.BucketNodes) || s.leader == "" {
		return nil, false
	}
	group = []string{s.leader}
	for _, m := range s.members {
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
func (a *auditor) due(stream string, group []string, states map[string]replicaState) bool {
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
		a.log.Warn().Str("stream", stream).Msg("counts of the copies differ")
		return true
	}
	return time.Since(a.at[stream]) > a.cfg.AuditEvery
}

// pass notes that all copies of a stream are equal, and lets the copies go that were put aside.
func (a *auditor) pass(ctx context.Context, stream string, group []string, states map[string]replicaState) {
	a.passed[stream] = map[string]string{}
	for _, member := range group {
		a.passed[stream][member] = states[member].Life
		if slices.Contains(states[member].Aside, stream) {
			if err := a.order(ctx, askDiscard, member, stream); err != nil {
				a.log.Warn().Err(err).Str("member", member).Msg("copy that was put aside not removed")
			}
		}
	}
	if h := a.rebuilding; h != nil && h.stream == stream {
		log := a.log.Info().Str("member", h.member).Str("stream", stream).Dur("took", time.Since(h.since))
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

// heal has the member that differs from the others start again without its copy.
func (a *auditor) resolve(ctx context.Context, stream string, found comparison, states map[string]replicaState) {
	log := a.log.Error().Str("stream", stream).Strs("members", found.members()).Int("messages", found.messages).Uint64("first", found.first)
	switch h := a.rebuilding; {
	case found.undecided:
		a.unresolved[stream] = fmt.Sprintf("the copies of %s differ, and nobody knows which is right", stream)
		log.Msg("copies differ without a majority that is right: nothing is repaired")
	case h != nil && (h.member != found.odd || h.stream != stream): // one at a time
		a.unresolved[stream] = fmt.Sprintf("%s of %s differs, and another copy is rebuilt first", stream, found.odd)
	case h != nil && h.life == states[found.odd].Life && !h.overdue():
		// It was told, and has not stopped yet.
	case found.odd == a.name():
		a.unresolved[stream] = "the active's own copy of " + stream + " differs: it hands over"
		log.Msg("own copy differs from the others: handing over")
		if _, err := a.handOver(ctx); err != nil {
			a.log.Error().Err(err).Msg("not handed over")
		}
	default:
		if _, ok := complete(stream, a.view.Load().streams[stream], states); !ok {
			return // comparing took its time: somebody has gone meanwhile
		}
		log.Msg("copy differs from the others: it is rebuilt")
		a.rebuild(ctx, stream, found.odd, "differed", states)
	}
}

// rebuild has a member start again without its copy of a stream. A member that could not be told is not being healed: what is
// wrong is found again.
func (a *auditor) rebuild(ctx context.Context, stream, member, why string, states map[string]replicaState) {
	if !a.active() {
		return // frozen since the comparison: the other Booster may be giving such orders now
	}
	a.rebuilding = &rebuildJob{stream, member, states[member].Life, why, time.Now()}
	if err := a.order(ctx, askRebuild, member, stream); err != nil {
		a.log.Error().Err(err).Str("member", member).Msg("rebuild refused")
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
func (a *auditor) standsStill(stream string, s streamView, states map[string]replicaState) (behind string) {
	for _, m := range s.members {
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
	if behind == "" || rebuilding || s.leader != a.name() || len(s.members) != maxReplicas-1 ||
		time.Since(a.stands[standingKey(stream, behind)].since) < standsAfter {
		return ""
	}
	return behind
}

// pending says which copy was not compared since its member was started, and whether that member is there.
func (a *auditor) pending(v *view, states map[string]replicaState) (text string, there bool) {
	for _, stream := range slices.Sorted(maps.Keys(v.streams)) {
		for _, m := range v.streams[stream].members {
			if s, answers := states[m.Name]; stream != bus.BucketStream(bus.BucketNodes) &&
				(!answers || s.comparable() && a.passed[stream][m.Name] != s.Life) {
				text, there = fmt.Sprintf("%s of %s is not compared yet", stream, m.Name), there || answers && a.unresolved[stream] == ""
			}
		}
	}
	return text, there
}

// awaitAudit gives the audit a moment before a planned stop: a Booster that has just been started is handed nothing before it was compared.
func (b *Broker) awaitAudit() {
	ctx, cancel := context.WithTimeout(context.Background(), comparedWithin)
	defer cancel()
	for b.leads() && ctx.Err() == nil {
		if v := b.audit.Load(); v == nil || !v.soon {
			return
		}
		bus.Sleep(ctx, 50*time.Millisecond)
	}
}

// states asks every member for its copies. Who does not answer is not in the result but in the error.
func (a *auditor) states(ctx context.Context, v *view) (states map[string]replicaState, silent error) {
	states = map[string]replicaState{}
	for _, p := range v.peers {
		if p.name == "" || !p.online {
			continue
		}
		var s replicaState
		if err := a.ask(ctx, askState, p.name, nil, &s); err != nil {
			silent = errors.Join(silent, err)
			continue
		}
		states[p.name] = s
	}
	return states, silent
}

// order tells a member to do something with its copy of a stream.
func (a *auditor) order(ctx context.Context, what, member, stream string) error {
	return a.ask(ctx, what, member, []byte(stream), &struct{}{})
}

func (a *auditor) ask(ctx context.Context, what, member string, question []byte, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	msg, err := a.sys.RequestWithContext(ctx, bus.AuditSubject(what, member), question)
	if err != nil {
		return fmt.Errorf("ask %s for its %s: %w", member, what, err)
	}
	var refusal struct {
		Error string `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &refusal); err != nil {
		return fmt.Errorf("%s of %s: %w", what, member, err)
	}
	if refusal.Error != "" {
		return fmt.Errorf("%s of %s: %s", what, member, refusal.Error)
	}
	return json.Unmarshal(msg.Data, answer)
}
