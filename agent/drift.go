package agent

import (
	"context"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/tree"
)

// Values of AGENT_WATCH.
const (
	watchPublish = "publish"
	watchReport  = "report"
	watchOff     = "off"
)

// drift compares the home with its baseline. What differs was changed here, by hand or by the server itself. Its methods belong to the
// updater's goroutine, except watch.
type drift struct {
	cfg      *Config
	home     *homeDir
	scanner  *tree.Scanner
	baseline *baseline
	sifter   *sifter
	findings *findings
	log      zerolog.Logger

	moved chan struct{} // something in the home may have changed
	dirty bool          // it has
	signs bool          // this host may publish
	read  time.Time     // of the last scan
	took  time.Duration // the last scan
}

func newDrift(cfg *Config, b *baseline, s *sifter, log zerolog.Logger) (*drift, error) {
	d := &drift{
		cfg: cfg, home: b.home, scanner: tree.NewScanner(b.home.Root, cfg.ignore), baseline: b, sifter: s, findings: &findings{log: log},
		log: log, moved: make(chan struct{}, 1),
	}
	d.scanner.OnProgress(func(files int, bytes int64) {
		log.Info().Int("files", files).Str("bytes", humanize.IBytes(uint64(bytes))).Msg("reading the home")
	})
	return complete(d)
}

// watch hears of changes until ctx ends.
func (d *drift) watch(ctx context.Context) {
	if d.cfg.Watch == watchOff {
		return
	}
	partly := func(err error) {
		d.log.Warn().Err(err).Stringer("every", d.cfg.WatchEvery).Msg("not all of the home can be watched; the rest is read from time to time")
	}
	if err := tree.Watch(ctx, d.home.Name(), d.cfg.ignore, d.moved, partly); err != nil {
		d.log.Warn().Err(err).Stringer("every", d.cfg.WatchEvery).Msg("changes in the home cannot be watched; it is read from time to time")
	}
}

// maySign says whether this host may publish.
func (d *drift) maySign(may bool) { d.signs = may }

// touch has the next look compare the home.
func (d *drift) touch() { d.dirty = true }

// clean tells whether the home was read, and is as it should be.
func (d *drift) clean() bool { return !d.read.IsZero() && len(d.findings.all()) == 0 }

// begin takes the home as it is for its baseline, if it has none.
func (d *drift) begin(ctx context.Context) error {
	if d.cfg.Watch == watchOff {
		return nil
	}
	if d.baseline.files() != nil {
		return d.baseline.forgetIgnored()
	}
	found, err := d.scanner.Scan(ctx, 0)
	if err != nil {
		return err
	}
	return d.baseline.begin(found.Files)
}

// accept makes what a patch has left the baseline of its files.
func (d *drift) accept(id string, c patch.Content) error {
	if !d.baseline.accepts(c) {
		return nil
	}
	d.touch() // what was a change is none any more
	return d.baseline.accept(id, c)
}

// lookNow compares the home with its baseline, whatever it costs, and tells whether anything differs.
func (d *drift) lookNow(ctx context.Context) (changed bool, err error) {
	d.dirty, d.took = true, 0
	_, _, err = d.look(ctx)
	return len(d.findings.all()) > 0, err
}

// look compares the home with its baseline, if there is reason to. changes are those that have to be published and have rested for
// AGENT_WATCH_QUIET; if some have not rested yet, again says when to look next.
func (d *drift) look(ctx context.Context) (changes []tree.Change, again time.Duration, err error) {
	if due, again := d.due(); !due {
		return nil, again, nil
	}
	if err := d.begin(ctx); err != nil {
		return nil, 0, err
	}
	d.dirty = false
	begun := time.Now()
	found, err := d.scanner.Scan(ctx, d.cfg.WatchQuiet)
	if err != nil {
		return nil, 0, err
	}
	d.read = time.Now()
	d.took = d.read.Sub(begun)
	book := d.baseline.book()
	found.Files.TakeModes(book.Files)
	if book.Version == "" {
		d.baseline.versioned(&book) // of a book that an older agent has left
	}
	s := d.sifter.sift(found, book, d.read)
	d.findings.note(s, d.read)
	if len(s.changes) == 0 {
		err = d.baseline.forgetPublished()
	}
	changes, again = d.sifter.ripe(s, d.findings.unchangedSince())
	d.dirty = d.dirty || again > 0
	why := ""
	if d.unsettled() {
		why = heldBack(s.going, book, d.home.version())
	}
	d.findings.holdBack(why)
	if err != nil || why != "" || !d.unsettled() {
		return nil, again, err
	}
	return changes, again, nil
}

// How much of the time a home may be read: a large one is read less often.
const (
	shareOfChange = 20  // one part in so many, when something has changed
	shareOfRest   = 100 // the same, when nothing is known to have
)

// due tells whether there is reason to read the home now; if there will be soon, again says when.
func (d *drift) due() (due bool, again time.Duration) {
	pause := max(d.cfg.WatchEvery, shareOfRest*d.took)
	switch {
	case d.cfg.Watch == watchOff:
		return false, 0
	case d.dirty || d.unsettled():
		pause = shareOfChange * d.took
		again = pause - time.Since(d.read)
	}
	return time.Since(d.read) >= pause, max(0, again)
}

// unsettled tells whether there are changes that have to be published.
func (d *drift) unsettled() bool {
	p, digest := d.baseline.published(), d.findings.goingDigest()
	return d.cfg.Watch == watchPublish && d.signs && digest != "" && (p.Digest != digest || !p.Sent)
}

// repeats counts, for each path that is about to be published, how often it was changed again soon after its last patch.
func (d *drift) repeats(changes []tree.Change) map[string]int {
	return d.sifter.repeats(changes, d.baseline.book())
}

// release takes an operator's word that changes that are held back are meant. digest says which: others may have come since he looked.
func (d *drift) release(digest string) error {
	if err := d.findings.mayRelease(digest); err != nil {
		return err
	}
	return d.baseline.change(func(b *treeBook) { b.Released = digest })
}

// describe fills in what the heartbeat says of the home's files.
func (d *drift) describe(state *bus.AgentState) {
	d.findings.describe(state)
	state.Baseline = d.baseline.shown()
}

// answer is what others may ask of changes.
func (d *drift) answer(node string) bus.Drift {
	answer := bus.Drift{
		Node: node, Watch: d.cfg.Watch, Version: d.home.version(), Baseline: d.baseline.digest(),
		Files: []bus.DriftFile{}, DriftStays: bus.DriftStays{Stays: []bus.DriftStay{}},
	}
	d.findings.fill(&answer, d.baseline.published())
	return answer
}
