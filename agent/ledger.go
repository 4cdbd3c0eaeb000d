package agent

import (
	"slices"
	"sync"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// ledger is what this node knows of patches. It is on disk before anybody else hears of it.
type ledger struct {
	dir *dataDir
	mu  sync.Mutex // the heartbeat reads while the updater writes
	page
}

// page is the content of the ledger's file.
type page struct {
	Stream  time.Time `json:"stream"`  // creation time of the PATCH that Seq belongs to
	Seq     uint64    `json:"seq"`     // last message of it that was dealt with
	Last    string    `json:"last"`    // the patch that is announced there
	Entries []entry   `json:"patches"` // every patch that was dealt with, in that order
}

type entry struct {
	patch.Report
	Sent   bool `json:"sent"`   // ROLLOUT has it
	Before bool `json:"before"` // the home had it when this node began: nothing was done here, so nothing is reported
}

func openLedger(dir *dataDir) (*ledger, error) {
	l, err := complete(&ledger{dir: dir})
	if err != nil {
		return nil, err
	}
	return l, dir.load(ledgerFile, &l.page)
}

// read returns the current page; its entries are not to be changed.
func (l *ledger) read() page {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.page
}

// describe fills in what the heartbeat says of the order of patches.
func (l *ledger) describe(state *bus.AgentState) {
	p := l.read()
	state.PatchSeq, state.PatchStream = p.Seq, p.Stream.Format(time.RFC3339Nano)
}

// change edits a copy of the page, and makes it the current one once it is on disk.
func (l *ledger) change(edit func(p *page)) error {
	next := l.read()
	next.Entries = slices.Clone(next.Entries)
	edit(&next)
	if err := l.dir.save(ledgerFile, next); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.page = next
	return nil
}

// settle records what became of a patch. It is dealt with from then on.
func (l *ledger) settle(r patch.Report) error {
	return l.change(func(p *page) {
		p.advance(r.Patch, r.Seq)
		if i := p.find(r.Patch); i >= 0 {
			p.Entries[i] = entry{Report: r}
			return
		}
		p.Entries = append(p.Entries, entry{Report: r})
	})
}

// pass goes on after a message about a patch that was dealt with before. Its report is sent again, in case that the bucket was
// built anew.
func (l *ledger) pass(id string, seq uint64) error {
	return l.change(func(p *page) {
		p.advance(id, seq)
		if i := p.find(id); i >= 0 {
			p.Entries[i].Sent = p.Entries[i].Before
		}
	})
}

func (p *page) advance(id string, seq uint64) {
	if seq > p.Seq {
		p.Seq, p.Last = seq, id
	}
}

// knows tells whether the patch was dealt with.
func (p page) knows(id string) bool { return p.find(id) >= 0 }

// without tells whether the patch was dealt with and is not in place.
func (p page) without(id string) bool {
	i := p.find(id)
	return i >= 0 && p.Entries[i].State != patch.StateApplied
}

// standing is the state of a node that has nothing to do.
func (p page) standing() string {
	if len(p.Entries) == 0 {
		return stateCurrent
	}
	switch last := p.Entries[len(p.Entries)-1]; last.State {
	case patch.StateFailed, patch.StateRolledBack:
		return last.State + ": " + last.Error
	default:
		return stateCurrent
	}
}

// last is the id of the patch at Seq. A ledger of a former release does not name it.
func (p page) last() string {
	if i := slices.IndexFunc(p.Entries, func(e entry) bool { return e.Seq == p.Seq }); p.Last == "" && i >= 0 {
		return p.Entries[i].Patch
	}
	return p.Last
}

func (p page) find(id string) int {
	return slices.IndexFunc(p.Entries, func(e entry) bool { return e.Patch == id })
}
