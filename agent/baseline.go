package agent

import (
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/document"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/tree"
)

// baseline is how the files of the home should be: as the last patch, or the first start, has left them. It is kept in the data
// directory. Any goroutine may read it; the updater's goroutine alone changes it, except that an operator's order releases what is
// held back.
type baseline struct {
	cfg   *Config
	home  *homeDir
	pages *document.Document[treeBook]
	log   zerolog.Logger

	pruned bool // the files that are ignored are out of it

	mu     sync.Mutex
	sum    string // digest of the files
	exists bool
}

func openBaseline(cfg *Config, dir *dataDir, home *homeDir, log zerolog.Logger) (*baseline, error) {
	pages, err := document.Open[treeBook](filepath.Join(dir.path, treeFile))
	if err != nil {
		return nil, err
	}
	b, err := complete(&baseline{cfg: cfg, home: home, pages: pages, log: log})
	if err != nil {
		return nil, err
	}
	b.show()
	return b, nil
}

// book is what is known of this home. Its files are not to be changed.
func (b *baseline) book() treeBook { return b.pages.Get().of(b.cfg.Home) }

// files are nil without a baseline. They are not to be changed.
func (b *baseline) files() tree.Tree { return b.book().Files }

// change edits the book. If it cannot be saved, nothing has changed.
func (b *baseline) change(edit func(b *treeBook)) error {
	err := b.pages.Change(func(book *treeBook) {
		*book = book.of(b.cfg.Home)
		edit(book)
	})
	b.show()
	return err
}

// show makes the digest of the book's files the one that others read.
func (b *baseline) show() {
	files := b.files()
	digest := files.Digest()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sum, b.exists = digest, files != nil && b.cfg.Watch != watchOff
}

// digest is that of the files as they should be.
func (b *baseline) digest() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sum
}

// shown is the digest for the heartbeat; empty without a baseline.
func (b *baseline) shown() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.exists {
		return ""
	}
	return b.sum
}

// begin takes the home, as a scan has found it, for the baseline.
func (b *baseline) begin(found tree.Tree) error {
	found.TakeModes(nil)
	if err := b.change(func(book *treeBook) { book.Files = found; b.versioned(book) }); err != nil {
		return err
	}
	b.log.Info().Int("files", len(found)).Str("digest", b.digest()).Msg("the files of the home, as they are, are the baseline")
	return nil
}

// forgetIgnored takes out of the baseline what AGENT_IGNORE, or a new release, has excluded from the tree: a scan does not see it, and
// it would become a deletion on all servers.
func (b *baseline) forgetIgnored() error {
	ignored := func(name string, _ tree.File) bool { return b.cfg.ignore.MatchPath(name) }
	if b.pruned {
		return nil
	}
	files := maps.Clone(b.files())
	if maps.DeleteFunc(files, ignored); len(files) < len(b.files()) {
		b.log.Info().Int("files", len(b.files())-len(files)).Msg("files of the baseline are ignored from now on, and stay as they are")
		if err := b.change(func(book *treeBook) { book.Files = files }); err != nil {
			return err
		}
	}
	b.pruned = true
	return nil
}

// accepts tells whether the baseline follows a patch: without one, only a patch with all files of a home begins it.
func (b *baseline) accepts(c patch.Content) bool {
	return b.cfg.Watch != watchOff && (b.files() != nil || c.Whole)
}

// accept makes what a patch has left the baseline of its files.
func (b *baseline) accept(id string, c patch.Content) error {
	return b.change(func(book *treeBook) {
		if book.Files == nil || c.Whole { // which has all
			book.Files = tree.Tree{}
		}
		for _, f := range c.Files {
			if !b.cfg.ignore.MatchPath(f.Path) {
				book.Files[f.Path] = tree.File{SHA256: f.SHA256, Size: f.Size, Mode: f.Mode}
			}
		}
		for _, name := range c.Deletions {
			delete(book.Files, name)
		}
		book.remember(id, c, time.Now())
		book.Version = ""
		b.versioned(book)
	})
}

// versioned notes which version the files of the book are, where that can be told: as long as nobody has changed the version file.
func (b *baseline) versioned(book *treeBook) {
	if is, err := tree.Read(b.home.Root, patch.VersionFile); err == nil && is != "" && is == book.Files[patch.VersionFile].SHA256 {
		book.Version = b.home.version()
	}
}

// known tells whether a file is as its baseline says. Where nothing is watched, nobody can tell.
func (b *baseline) known(name, digest string) bool {
	files := b.files()
	return files == nil || b.cfg.ignore.MatchPath(name) || files[name].SHA256 == digest
}

// isOwn tells whether a patch was made of changes that were found here.
func (b *baseline) isOwn(patchID string) bool { return b.book().Published.Patch == patchID }

// published is the last change that was found here and published, or is about to be.
func (b *baseline) published() publishedTree { return b.book().Published }

// publish writes down what is about to be published.
func (b *baseline) publish(p publishedTree) error {
	return b.change(func(book *treeBook) { book.Published = p })
}

// sent writes down that it is announced.
func (b *baseline) sent() error {
	return b.change(func(book *treeBook) { book.Published.Sent = true })
}

// forgetPublished lets the same change be published again some day.
func (b *baseline) forgetPublished() error {
	if book := b.book(); book.Published.Digest == "" && book.Released == "" {
		return nil
	}
	return b.change(func(book *treeBook) { book.Published, book.Released = publishedTree{}, "" })
}

// stand remembers which baseline belongs to a place in the order of patches, for others that have lost theirs.
func (b *baseline) stand(stream time.Time, seq uint64) error {
	book := b.book()
	if book.Files == nil {
		return nil
	}
	now := treePlace{Stream: stream, Seq: seq, Digest: b.digest()}
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
	return b.change(func(book *treeBook) { book.Places = places[max(0, len(places)-placesKept):] })
}

// stood is the last place at which this home had the files of that digest, if it had them.
func (b *baseline) stood(digest string) (place treePlace, ok bool) {
	for _, p := range slices.Backward(b.book().Places) {
		if p.Digest == digest {
			return p, true
		}
	}
	return treePlace{}, false
}
