package agent

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/document"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/tree"
)

// Values of AGENT_WATCH.
const (
	watchPublish = "publish"
	watchReport  = "report"
	watchOff     = "off"
)

// drift compares the home with its baseline: the files as the last patch, or the beginning, has left them. What differs was changed here, by hand
// or by the server itself. Its methods belong to the follower's goroutine, but for watch, describe and tell.
type drift struct {
	cfg     *Config
	home    *os.Root
	ignore  tree.Ignore
	scanner *tree.Scanner
	log     zerolog.Logger

	moved chan struct{} // something in the home may have changed
	dirty bool          // it has
	pages *document.Document[treeBook]
	signs bool          // this host may publish
	read  time.Time     // of the last scan
	took  time.Duration // the last scan

	pruned bool // the baseline has nothing that is ignored

	seen    map[string]sighting // of each change
	waiting time.Time           // since when something has rested and waits for the rest; zero if nothing does

	started      func() (begun, healthy time.Time) // the last start of the server; zero if there was none
	windowsThere func() bool                       // there are Windows servers

	mu          sync.Mutex // for what is told to others
	baseline    string     // digest of the book's files
	hasBaseline bool
	changes     []tree.Change
	stays       []tree.Stay
	digest      string    // of the changes that may be published
	since       time.Time // when they were first seen as they are
	moving      string    // the file that is being written, and that the others wait for
	held        string    // why they are not published until somebody orders it
}

func openDrift(cfg *Config, dir *dataDir, home *os.Root, log zerolog.Logger) (*drift, error) {
	d := &drift{
		cfg: cfg, home: home, ignore: cfg.ignore, scanner: tree.NewScanner(home, cfg.ignore), log: log,
		moved:   make(chan struct{}, 1),
		started: func() (begun, healthy time.Time) { return begun, healthy }, windowsThere: func() bool { return false },
	}
	d.scanner.OnProgress(func(files int, bytes int64) {
		log.Info().Int("files", files).Str("bytes", humanize.IBytes(uint64(bytes))).Msg("reading the home")
	})
	var err error
	if d.pages, err = document.Open[treeBook](filepath.Join(dir.path, treeFile)); err != nil {
		return nil, err
	}
	d.show()
	return d, nil
}

// watch hears of changes until ctx ends.
func (d *drift) watch(ctx context.Context) {
	if d.cfg.Watch == watchOff {
		return
	}
	partly := func(err error) {
		d.log.Warn().Err(err).Stringer("every", d.cfg.WatchEvery).Msg("not all of the home can be watched; the rest is read from time to time")
	}
	if err := tree.Watch(ctx, d.home.Name(), d.ignore, d.moved, partly); err != nil {
		d.log.Warn().Err(err).Stringer("every", d.cfg.WatchEvery).Msg("changes in the home cannot be watched; it is read from time to time")
	}
}

// clean tells whether the home was read, and is as it should be.
func (d *drift) clean() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.read.IsZero() && len(d.changes) == 0
}

// begin takes the home as it is for its baseline, if it has none.
func (d *drift) begin(ctx context.Context) error {
	if d.cfg.Watch == watchOff {
		return nil
	}
	if d.book().Files != nil {
		return d.forgetIgnored()
	}
	found, err := d.scanner.Scan(ctx, 0)
	if err != nil {
		return err
	}
	found.Files.TakeModes(nil)
	if err := d.change(func(b *treeBook) { b.Files = found.Files; d.versioned(b) }); err != nil {
		return err
	}
	d.log.Info().Int("files", len(found.Files)).Str("digest", d.baselineDigest()).Msg("the files of the home, as they are, are the baseline")
	return nil
}

// forgetIgnored takes out of the baseline what is no part of the tree any more, because AGENT_IGNORE or a new release says so: a scan does not see it, and it
// would be a deletion that goes to all servers.
func (d *drift) forgetIgnored() error {
	ignored := func(name string, _ tree.File) bool { return d.ignore.MatchPath(name) }
	if d.pruned {
		return nil
	}
	files := maps.Clone(d.book().Files)
	if maps.DeleteFunc(files, ignored); len(files) < len(d.book().Files) {
		d.log.Info().Int("files", len(d.book().Files)-len(files)).Msg("files of the baseline are ignored from now on, and stay as they are")
		if err := d.change(func(b *treeBook) { b.Files = files }); err != nil {
			return err
		}
	}
	d.pruned = true
	return nil
}

// accept makes what a patch has left the baseline of its files.
func (d *drift) accept(id string, c patch.Content) error {
	if d.cfg.Watch == watchOff || d.book().Files == nil && !c.Whole {
		return nil
	}
	d.dirty = true // what was a change is none any more
	return d.change(func(b *treeBook) {
		if b.Files == nil || c.Whole { // which has all
			b.Files = tree.Tree{}
		}
		for _, f := range c.Files {
			if !d.ignore.MatchPath(f.Path) {
				b.Files[f.Path] = tree.File{SHA256: f.SHA256, Size: f.Size, Mode: f.Mode}
			}
		}
		for _, name := range c.Deletions {
			delete(b.Files, name)
		}
		b.remember(id, c, time.Now())
		b.Version = ""
		d.versioned(b)
	})
}

// look compares the home with its baseline, if there is reason to. changes are those that nobody has told the others of, once they have rested
// for AGENT_WATCH_QUIET; if they have not yet, again says when to look next.
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
	book := d.book()
	found.Files.TakeModes(book.Files)
	if book.Version == "" {
		d.versioned(&book) // of a book that an older agent has left
	}
	s := d.sift(found, book)
	d.note(s)
	if len(s.changes) == 0 && (book.Published.Digest != "" || book.Released != "") { // the same change may be made again some day
		err = d.change(func(b *treeBook) { b.Published, b.Released = publishedTree{}, "" })
	}
	changes, again = d.ripe(s)
	d.dirty = d.dirty || again > 0
	why := ""
	if d.unsettled() {
		why = heldBack(s.going, book, patch.HomeVersion(d.home.FS()))
	}
	d.holdBack(why)
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

// note keeps what differs, for others to ask, and since when it is as it is.
func (d *drift) note(s sifted) {
	digest := tree.DigestOf(s.going)
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(s.stays) > 0 && !slices.Equal(s.stays, d.stays) {
		d.log.Warn().Int("paths", len(s.stays)).Str("first", s.stays[0].Path).Str("why", s.stays[0].Why).Msg("not everything in the home is carried to other servers")
	}
	if digest != d.digest || len(s.changes) != len(d.changes) {
		d.digest, d.since = digest, d.read
		if len(s.changes) > 0 {
			d.log.Warn().Int("files", len(s.changes)).Str("first", s.changes[0].Path).Msg("files in the home were changed here")
		}
	}
	d.changes, d.stays, d.moving = s.changes, s.stays, s.moving
}

// holdBack keeps why changes are held back, for others to ask.
func (d *drift) holdBack(why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if why != "" && why != d.held {
		d.log.Error().Int("files", len(d.changes)).Str("why", why).Msg("changes are held back: nothing of them is published before somebody orders it with `omflow-booster nodes drift NODE --publish`")
	}
	d.held = why
}

// unsettled tells whether there are changes that have to be published.
func (d *drift) unsettled() bool {
	p := d.book().Published
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cfg.Watch == watchPublish && d.signs && d.digest != "" && (p.Digest != d.digest || !p.Sent)
}

// known tells whether a file is as its baseline says. Where nothing is watched, nobody can tell.
func (d *drift) known(name, digest string) bool {
	files := d.book().Files
	return files == nil || d.ignore.MatchPath(name) || files[name].SHA256 == digest
}
