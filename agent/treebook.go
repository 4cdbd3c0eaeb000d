package agent

import "github.com/omflow-booster/omflow-booster/internal/tree"

// treeBook is the file of the baseline.
type treeBook struct {
	Home      string        `json:"home"`
	Files     tree.Tree     `json:"files"`
	Published publishedTree `json:"published"`
}

// publishedTree is the last change that was found here and published.
type publishedTree struct {
	Digest string `json:"digest"` // of the changes
	Patch  string `json:"patch"`
	Sent   bool   `json:"sent"` // it is announced
}

// of is the book of a home: another home has a beginning of its own.
func (b treeBook) of(home string) treeBook {
	if b.Home != home {
		return treeBook{Home: home}
	}
	return b
}

// book is what is known of this home. Its files are not to be changed.
func (d *drift) book() treeBook { return d.pages.Get().of(d.cfg.Home) }

// change edits the book. If it cannot be saved, nothing has changed.
func (d *drift) change(edit func(b *treeBook)) error {
	err := d.pages.Change(func(b *treeBook) {
		*b = b.of(d.cfg.Home)
		edit(b)
	})
	digest := d.book().Files.Digest()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.baseline = digest
	return err
}

// baselineDigest is the digest of the files as they should be.
func (d *drift) baselineDigest() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.baseline
}
