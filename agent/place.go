package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

// placesKept is how many of the baselines that a home has had an agent remembers.
const placesKept = 50

// errPlaceless keeps a node waiting that does not know which patches its home has.
var errPlaceless = errors.New("this server has no record of the patches that its home has, and its files are not those of another server that runs")

// treePlace is a place in the order of patches at which the home had its files as the digest says.
type treePlace struct {
	Stream time.Time `json:"stream"`
	Seq    uint64    `json:"seq"`
	Digest string    `json:"digest"`
}

// stand remembers which baseline belongs to a place in the order of patches, for others that have lost theirs.
func (d *drift) stand(stream time.Time, seq uint64) error {
	book := d.book()
	if book.Files == nil {
		return nil
	}
	now := treePlace{Stream: stream, Seq: seq, Digest: d.baselineDigest()}
	places := book.Places
	if n := len(places); n > 0 {
		if places[n-1] == now {
			return nil
		}
		if places[n-1].Digest == now.Digest {
			places = places[:n-1]
		}
	}
	places = append(slices.Clone(places), now)
	return d.change(func(b *treeBook) { b.Places = places[max(0, len(places)-placesKept):] })
}

// stood is the last place at which this home had the files of that digest, if it had them.
func (d *drift) stood(digest string) (place treePlace, ok bool) {
	for _, p := range slices.Backward(d.book().Places) {
		if p.Digest == digest {
			return p, true
		}
	}
	return treePlace{}, false
}

// placer takes the order of an operator who knows which patches this server has.
type placer struct {
	f *follower

	mu     sync.Mutex
	asking bool   // an order is waited for
	order  string // empty: none
}

// addTo answers those who ask who has had their files, and takes the order.
func (p *placer) addTo(group micro.Group, node string) error {
	err := group.AddEndpoint(bus.EndpointPlace, micro.HandlerFunc(func(r micro.Request) {
		var asked bus.Place
		if json.Unmarshal(r.Data(), &asked) != nil {
			return
		}
		if at, ok := p.f.drift.stood(asked.Baseline); ok {
			_ = r.RespondJSON(bus.Place{Node: node, Stream: at.Stream, Seq: at.Seq, Baseline: at.Digest})
		}
	}), micro.WithEndpointQueueGroupDisabled())
	if err != nil {
		return err
	}
	return group.AddEndpoint(bus.EndpointPlaceBy, micro.HandlerFunc(func(r micro.Request) {
		var o bus.PlaceOrder
		var answer bus.PlaceAnswer
		if err := json.Unmarshal(r.Data(), &o); err != nil {
			answer.Error = err.Error()
		} else if !p.give(o.After) {
			answer.Error = "it knows which patches it has"
		}
		_ = r.RespondJSON(answer)
	}), micro.WithEndpointSubject(bus.EndpointPlaceBy+"."+bus.Token(node)), micro.WithEndpointQueueGroupDisabled())
}

func (p *placer) give(order string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.asking || order == "" {
		return false
	}
	p.order = order
	wake(p.f.giver.asked)
	return true
}

// take returns the order, and says whether one is waited for from now on.
func (p *placer) take(asking bool) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	order := p.order
	p.asking, p.order = asking, ""
	return order
}

// align makes the ledger's place one in this PATCH. The stream is the order of all patches, by its sequence and nothing else: an id that was dealt
// with is passed, and what is not known here is new. A stream of another creation time is the same one if it has the ledger's last patch at the
// ledger's place (the cluster has grown or shrunk, or was restored). Else the Booster was rebuilt, and the stream is read from its beginning.
//
// Where the ledger does not say which patches the home has, because it is gone or because what it misses is not stored any more, the home's files
// may be known to another server; else align fails with errPlaceless until a person says it.
func (f *follower) align(ctx context.Context, stream jetstream.Stream) error {
	known, info := f.ledger.read(), stream.CachedInfo()
	rebuilt := !info.Created.Equal(known.Stream) || known.Seq > info.State.LastSeq
	if !rebuilt && info.State.FirstSeq <= known.Seq+1 {
		return f.inherit(ctx, stream, known)
	}
	trimmed, err := rollout.TrimmedThrough(ctx, f.client.JS)
	if err != nil {
		return err
	}
	if trimmed > info.State.LastSeq { // of a PATCH before this one
		trimmed = 0
	}
	if !rebuilt && trimmed <= known.Seq { // what is missing was removed by hand
		return f.inherit(ctx, stream, known)
	}
	announced, err := patch.ListOf(ctx, stream)
	if err != nil {
		return err
	}
	familiar := slices.ContainsFunc(announced, func(a patch.Announcement) bool { return known.knows(a.ID) })
	switch {
	case known.last() != "" && lastOf(announced, known.Seq) == known.last():
		return f.standAt(info.Created, known.Seq, known.last(), nil)
	case rebuilt && familiar, rebuilt && trimmed == 0 && known.Seq > 0, f.isBare():
		if known.Seq > 0 {
			f.log.Warn().Uint64("seq", known.Seq).Msg("stream of patches was built anew; reading it from its beginning")
		}
		return f.standAt(info.Created, trimmed, "", nil)
	}
	reports, err := patch.Reports(ctx, f.client.JS)
	if err != nil {
		return err
	}
	if trimmed == 0 && !slices.ContainsFunc(announced, func(a patch.Announcement) bool { return settledBySomebody(reports[a.ID]) }) {
		return f.standAt(info.Created, 0, "", nil)
	}
	seq, err := f.findPlace(ctx, info, announced, trimmed)
	if err != nil {
		return err
	}
	return f.standAt(info.Created, seq, lastOf(announced, seq), before(known, announced, reports, seq))
}

// standAt writes down where this node stands. What it has reported is reported again: the bucket may be a new one.
func (f *follower) standAt(stream time.Time, seq uint64, last string, more []entry) error {
	f.placer.take(false)
	return f.ledger.change(func(p *page) {
		p.Stream, p.Seq, p.Last = stream, seq, last
		for i, e := range p.Entries {
			if e.Seq <= seq {
				p.Entries[i].Sent = e.Before
			}
		}
		p.Entries = append(p.Entries, more...)
	})
}

// findPlace is the sequence of the last patch that the home has, by the word of another server with the same files, or of an operator.
func (f *follower) findPlace(ctx context.Context, info *jetstream.StreamInfo, announced []patch.Announcement, trimmed uint64) (uint64, error) {
	order := f.placer.take(true)
	switch i := slices.IndexFunc(announced, func(a patch.Announcement) bool { return a.ID == order }); {
	case order == bus.PlaceAll:
		return info.State.LastSeq, nil
	case order == bus.PlaceNone:
		return trimmed, nil
	case i >= 0:
		return announced[i].Seq, nil
	case order != "":
		f.log.Warn().Str("after", order).Msg("no such patch is announced; this server still does not know where it stands")
	}
	files := f.drift.book().Files
	if files == nil {
		found, err := f.drift.scanner.Scan(ctx, 0)
		if err != nil {
			return 0, err
		}
		files = found.Files
		files.TakeModes(nil)
	}
	mine := files.Digest()
	question, err := json.Marshal(bus.Place{Node: f.node, Baseline: mine})
	if err != nil {
		return 0, err
	}
	var best *bus.Place
	wait, cancel := context.WithTimeout(ctx, offerWait)
	defer cancel()
	err = bus.AskAll(wait, f.client.NC, bus.PlaceSubject, question, func(answer []byte) bool {
		var p bus.Place
		fits := json.Unmarshal(answer, &p) == nil && p.Node != f.node && p.Baseline == mine && p.Stream.Equal(info.Created) &&
			p.Seq >= trimmed && p.Seq <= info.State.LastSeq
		if fits && (best == nil || p.Seq > best.Seq) {
			best = &p
		}
		return false
	})
	if err := errors.Join(ctx.Err(), err); err != nil {
		return 0, err
	}
	if best == nil {
		return 0, fmt.Errorf("%w; say which is the last one that it has: omflow-booster nodes place %s --after PATCH, none or all", errPlaceless, f.node)
	}
	f.log.Info().Str("like", best.Node).Uint64("seq", best.Seq).Msg("the files of the home are those of another server: going on from its place")
	return best.Seq, nil
}

func settledBySomebody(reports []patch.Report) bool {
	return slices.ContainsFunc(reports, func(r patch.Report) bool { return r.Final() })
}

// before are entries for patches that the home had before this node knew of them, as others have reported them.
func before(known page, announced []patch.Announcement, reports map[string][]patch.Report, seq uint64) (entries []entry) {
	for _, a := range announced {
		if a.Seq > seq || known.knows(a.ID) {
			continue
		}
		r := patch.Report{Patch: a.ID, Seq: a.Seq, Created: a.Created, State: patch.StateApplied}
		if !slices.ContainsFunc(reports[a.ID], func(other patch.Report) bool { return other.State == patch.StateApplied }) {
			for _, other := range reports[a.ID] {
				if other.Final() {
					r.State, r.Error = other.State, other.Error
				}
			}
		}
		entries = append(entries, entry{Report: r, Sent: true, Before: true})
	}
	return entries
}

// inherit learns, once, the names of the patches that came with the files of another server.
func (f *follower) inherit(ctx context.Context, stream jetstream.Stream, known page) error {
	if f.inherited {
		return nil
	}
	announced, err := patch.ListOf(ctx, stream)
	if err != nil {
		return err
	}
	last := lastOf(announced, known.Seq)
	var entries []entry
	if last != "" && !known.knows(last) {
		reports, err := patch.Reports(ctx, f.client.JS)
		if err != nil {
			return err
		}
		entries = before(known, announced, reports, known.Seq)
	}
	if len(entries) > 0 || last != "" && known.Last != last {
		err = f.ledger.change(func(p *page) { p.Entries, p.Last = append(p.Entries, entries...), last })
	}
	f.inherited = err == nil
	return err
}

// lastOf is the id of the patch that is announced at a place; empty for none.
func lastOf(announced []patch.Announcement, seq uint64) string {
	if i := slices.IndexFunc(announced, func(a patch.Announcement) bool { return a.Seq == seq }); i >= 0 {
		return announced[i].ID
	}
	return ""
}
