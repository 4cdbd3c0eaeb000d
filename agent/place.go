package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
	"github.com/omflow-booster/omflow-booster/internal/tree"
)

// errPlaceless keeps a node waiting that does not know which patches its home has.
var errPlaceless = errors.New("this server has no record of the patches that its home has, and " +
	"its files are not those of another server that runs")

// aligner finds the place of this server in PATCH.
type aligner struct {
	node     string
	client   *bus.Client
	ledger   *ledger
	status   *status
	baseline filer
	scanner  *tree.Scanner
	orders   *placeOrders
	log      zerolog.Logger

	inherited bool // nothing is left to be learnt of patches that came with the home
}

// filer has the files as they should be.
type filer interface {
	files() tree.Tree // nil without a baseline
}

func newAligner(a aligner) (*aligner, error) { return complete(&a) }

// forget has the names of the patches that came with the home be learnt.
func (al *aligner) forget() { al.inherited = false }

// align makes the ledger's place one in this PATCH. The stream is the order of all patches, by its sequence and nothing else: an id
// that was dealt with is passed, and what is not known here is new. A stream of another creation time is the same one if it has the
// ledger's last patch at the ledger's place (the cluster has grown or shrunk, or was restored). Else the Booster was rebuilt, and the
// stream is read from its beginning.
//
// Where the ledger does not say which patches the home has, because it is gone or because what it misses is not stored any more, the
// home's files may be known to another server; else align fails with errPlaceless until a person says it.
func (al *aligner) align(ctx context.Context, stream jetstream.Stream) error {
	known, info := al.ledger.read(), stream.CachedInfo()
	rebuilt := !info.Created.Equal(known.Stream) || known.Seq > info.State.LastSeq
	if !rebuilt && info.State.FirstSeq <= known.Seq+1 {
		return al.inherit(ctx, stream, known)
	}
	trimmed, err := rollout.TrimmedThrough(ctx, al.client.JS)
	if err != nil {
		return err
	}
	if trimmed > info.State.LastSeq { // of a PATCH before this one
		trimmed = 0
	}
	if !rebuilt && trimmed <= known.Seq { // what is missing was removed by hand
		return al.inherit(ctx, stream, known)
	}
	announced, err := patch.ListOf(ctx, stream)
	if err != nil {
		return err
	}
	familiar := slices.ContainsFunc(announced, func(a patch.Announcement) bool { return known.knows(a.ID) })
	switch {
	case known.last() != "" && lastOf(announced, known.Seq) == known.last():
		return al.standAt(info.Created, known.Seq, known.last(), nil)
	case rebuilt && familiar, rebuilt && trimmed == 0 && known.Seq > 0, al.status.isBare():
		if known.Seq > 0 {
			al.log.Warn().Uint64("seq", known.Seq).Msg("stream of patches was built anew; reading it from its beginning")
		}
		return al.standAt(info.Created, trimmed, "", nil)
	}
	reports, err := patch.Reports(ctx, al.client.JS)
	if err != nil {
		return err
	}
	if trimmed == 0 && !slices.ContainsFunc(announced, func(a patch.Announcement) bool { return settledBySomebody(reports[a.ID]) }) {
		return al.standAt(info.Created, 0, "", nil)
	}
	seq, err := al.findPlace(ctx, info, announced, trimmed)
	if err != nil {
		return err
	}
	return al.standAt(info.Created, seq, lastOf(announced, seq), before(known, announced, reports, seq))
}

// standAt writes down where this node stands. What it has reported is reported again: the bucket may be a new one.
func (al *aligner) standAt(stream time.Time, seq uint64, last string, more []entry) error {
	al.orders.take(false)
	return al.ledger.change(func(p *page) {
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
func (al *aligner) findPlace(
	ctx context.Context, info *jetstream.StreamInfo, announced []patch.Announcement, trimmed uint64,
) (uint64, error) {
	order := al.orders.take(true)
	switch i := slices.IndexFunc(announced, func(a patch.Announcement) bool { return a.ID == order }); {
	case order == bus.PlaceAll:
		return info.State.LastSeq, nil
	case order == bus.PlaceNone:
		return trimmed, nil
	case i >= 0:
		return announced[i].Seq, nil
	case order != "":
		al.log.Warn().Str("after", order).Msg("no such patch is announced; this server still does not know where it stands")
	}
	files := al.baseline.files()
	if files == nil {
		found, err := al.scanner.Scan(ctx, 0)
		if err != nil {
			return 0, err
		}
		files = found.Files
		files.TakeModes(nil)
	}
	mine := files.Digest()
	question, err := json.Marshal(bus.Place{Node: al.node, Baseline: mine})
	if err != nil {
		return 0, err
	}
	var best *bus.Place
	wait, cancel := context.WithTimeout(ctx, offerTimeout)
	defer cancel()
	err = bus.AskAll(wait, al.client.NC, bus.PlaceSubject, question, func(answer []byte) bool {
		var p bus.Place
		fits := json.Unmarshal(answer, &p) == nil && p.Node != al.node && p.Baseline == mine && p.Stream.Equal(info.Created) &&
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
		return 0, fmt.Errorf("%w; say which is the last one that it has: omflow-booster nodes place %s --after PATCH, none or all",
			errPlaceless, al.node)
	}
	al.log.Info().Str("like", best.Node).Uint64("seq", best.Seq).
		Msg("the files of the home are those of another server: going on from its place")
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
func (al *aligner) inherit(ctx context.Context, stream jetstream.Stream, known page) error {
	if al.inherited {
		return nil
	}
	announced, err := patch.ListOf(ctx, stream)
	if err != nil {
		return err
	}
	last := lastOf(announced, known.Seq)
	var entries []entry
	if last != "" && !known.knows(last) {
		reports, err := patch.Reports(ctx, al.client.JS)
		if err != nil {
			return err
		}
		entries = before(known, announced, reports, known.Seq)
	}
	if len(entries) > 0 || last != "" && known.Last != last {
		err = al.ledger.change(func(p *page) { p.Entries, p.Last = append(p.Entries, entries...), last })
	}
	al.inherited = err == nil
	return err
}

// lastOf is the id of the patch that is announced at a place; empty for none.
func lastOf(announced []patch.Announcement, seq uint64) string {
	if i := slices.IndexFunc(announced, func(a patch.Announcement) bool { return a.Seq == seq }); i >= 0 {
		return announced[i].ID
	}
	return ""
}
