package agent

import (
	"context"
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

const (
	// A difference that removes more than so many files and more than this share of them is not published.
	lostFew   = 20
	lostShare = 10
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
	read  time.Time // of the last scan

	mu       sync.Mutex // for what is told to others
	baseline string     // digest of the book's files
	changes  []tree.Change
	stays    []tree.Stay
	digest   string    // of changes
	since    time.Time // when they were first seen as they are
}

func openDrift(cfg *Config, dir *dataDir, home *os.Root, log zerolog.Logger) (*drift, error) {
	d := &drift{
		cfg: cfg, home: home, ignore: cfg.ignore, scanner: tree.NewScanner(home, cfg.ignore), log: log,
		moved: make(chan struct{}, 1),
	}
	d.scanner.OnProgress(func(files int, bytes int64) {
		log.Info().Int("files", files).Str("bytes", humanize.IBytes(uint64(bytes))).Msg("reading the home")
	})
	var err error
	if d.pages, err = document.Open[treeBook](filepath.Join(dir.path, treeFile)); err != nil {
		return nil, err
	}
	d.baseline = d.book().Files.Digest()
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
	return !d.read.IsZero() && d.digest == ""
}

// begin takes the home as it is for its baseline, if it has none.
func (d *drift) begin(ctx context.Context) error {
	if d.cfg.Watch == watchOff || d.book().Files != nil {
		return nil
	}
	found, err := d.scanner.Scan(ctx, 0)
	if err != nil {
		return err
	}
	if err := d.change(func(b *treeBook) { b.Files = found.Files }); err != nil {
		return err
	}
	d.log.Info().Int("files", len(found.Files)).Str("digest", d.baselineDigest()).Msg("the files of the home, as they are, are the baseline")
	return nil
}

// accept makes what a patch has left the baseline of its files.
func (d *drift) accept(c patch.Content) error {
	if d.cfg.Watch == watchOff || d.book().Files == nil && !c.Whole {
		return nil
	}
	d.dirty = true // what was a change is none any more
	return d.change(func(b *treeBook) {
		if b.Files == nil {
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
	})
}

// look compares the home with its baseline, if there is reason to. changes are those that nobody has told the others of, once they have rested
// for AGENT_WATCH_QUIET; if they have not yet, again says when to look next.
func (d *drift) look(ctx context.Context) (changes []tree.Change, again time.Duration, err error) {
	if d.cfg.Watch == watchOff || !d.dirty && !d.unsettled() && time.Since(d.read) < d.cfg.WatchEvery {
		return nil, 0, nil
	}
	if err := d.begin(ctx); err != nil {
		return nil, 0, err
	}
	d.dirty = false
	now, err := d.scanner.Scan(ctx, 0)
	if err != nil {
		return nil, 0, err
	}
	d.read = time.Now()
	book := d.book()
	changes = now.Since(book.Files)
	rested := d.note(changes, now.Behind(book.Files))
	if len(changes) == 0 && book.Published.Digest != "" { // the same change may be made again some day
		return nil, 0, d.change(func(b *treeBook) { b.Published = publishedTree{} })
	}
	switch {
	case !d.unsettled():
		return nil, 0, nil
	case lost(changes, book.Files):
		if rested == 0 {
			d.log.Error().Int("files", len(changes)).Msg("so many files are missing that this looks like a lost disk: nothing of it is published")
		}
		return nil, 0, nil
	case rested < d.cfg.WatchQuiet:
		return nil, d.cfg.WatchQuiet - rested, nil
	}
	return changes, 0, nil
}

// lost tells whether so many files are missing that a disk is rather gone than a version new. That is told, and never spread.
func lost(changes []tree.Change, baseline tree.Tree) bool {
	missing := 0
	for _, c := range changes {
		if c.Kind == tree.Missing {
			missing++
		}
		if c.Kind == tree.Missing && c.Path == patch.VersionFile {
			return true
		}
	}
	return missing > max(lostFew, len(baseline)/lostShare)
}

// note keeps what differs, for others to ask, and returns for how long it has been the same.
func (d *drift) note(changes []tree.Change, stays []tree.Stay) time.Duration {
	digest := tree.DigestOf(changes)
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(stays) > 0 && !slices.Equal(stays, d.stays) {
		d.log.Warn().Int("paths", len(stays)).Str("first", stays[0].Path).Str("why", stays[0].Why).Msg("not everything in the home can be carried to other servers")
	}
	d.changes, d.stays = changes, stays
	if digest != d.digest {
		d.digest, d.since = digest, d.read
		if digest != "" {
			d.log.Warn().Int("files", len(changes)).Str("first", changes[0].Path).Msg("files in the home were changed here")
		}
	}
	return d.read.Sub(d.since)
}

// unsettled tells whether there are changes that have to be published.
func (d *drift) unsettled() bool {
	p := d.book().Published
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cfg.Watch == watchPublish && d.digest != "" && (p.Digest != d.digest || !p.Sent)
}

// known tells whether a file is as its baseline says. Where nothing is watched, nobody can tell.
func (d *drift) known(name, digest string) bool {
	files := d.book().Files
	return files == nil || d.ignore.MatchPath(name) || files[name].SHA256 == digest
}
