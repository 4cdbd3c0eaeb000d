package agent

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/micro"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/tree"
)

const (
	// A difference that removes more than so many files and more than this share of them is held back.
	lostFew   = 20
	lostShare = 10
)

// heldBack says why changes are not published until somebody orders it: a lost disk looks like a version with fewer files, and older files that were copied
// over the home by mistake would be skipped by all other servers, or take them back. It is empty if they may go.
func heldBack(changes []tree.Change, b treeBook, version string) string {
	if b.Released == tree.DigestOf(changes) {
		return ""
	}
	missing, versionFile := 0, false
	for _, c := range changes {
		if c.Kind == tree.Missing {
			missing++
			versionFile = versionFile || c.Path == patch.VersionFile
		}
	}
	switch {
	case versionFile:
		return patch.VersionFile + " is missing, which looks like a lost disk"
	case missing > max(lostFew, len(b.Files)/lostShare):
		return fmt.Sprintf("%d of %d files are missing, which looks like a lost disk", missing, len(b.Files))
	case patch.Older(version, b.Version):
		return fmt.Sprintf("its files are of version %s, and its last patch, like the other servers, has %s", version, b.Version)
	}
	return ""
}

// versioned notes which version the files of the book are, where that can be told: as long as nobody has changed the version file.
func (d *drift) versioned(b *treeBook) {
	if is, err := tree.Read(d.home, patch.VersionFile); err == nil && is != "" && is == b.Files[patch.VersionFile].SHA256 {
		b.Version = patch.HomeVersion(d.home.FS())
	}
}

// release takes an operator's word that changes that are held back are meant. digest says which: others may have come since he looked.
func (d *drift) release(digest string) error {
	d.mu.Lock()
	now, held := d.digest, d.held
	d.mu.Unlock()
	switch {
	case held == "":
		return errors.New("nothing is held back here")
	case now != digest:
		return errors.New("files have changed again since you looked; look again")
	}
	return d.change(func(b *treeBook) { b.Released = digest })
}

// releasing takes the order to publish what is held back.
type releasing struct{ f *follower }

func (r releasing) addTo(group micro.Group, node string) error {
	return group.AddEndpoint(bus.EndpointRelease, micro.HandlerFunc(func(q micro.Request) {
		err := r.order(string(q.Data()))
		if err != nil {
			_ = q.Error("500", err.Error(), nil)
			return
		}
		_ = q.Respond(nil)
	}), micro.WithEndpointSubject(bus.EndpointRelease+"."+bus.Token(node)), micro.WithEndpointQueueGroupDisabled())
}

func (r releasing) order(digest string) error {
	if _, err := r.f.trust.signer(); err != nil {
		return fmt.Errorf("this server cannot sign a patch: %w", err)
	}
	if err := r.f.drift.release(digest); err != nil {
		return err
	}
	r.f.log.Warn().Str("digest", digest).Msg("changes that were held back are published, by order of an operator")
	wake(r.f.giver.asked)
	return nil
}

// listing answers to those who ask which files this server should have.
type listing struct{ f *follower }

const pageBytes = 1 << 20

func (l listing) addTo(group micro.Group, node string) error {
	return group.AddEndpoint(bus.EndpointFiles, micro.HandlerFunc(func(r micro.Request) {
		var q bus.FilesQuery
		_ = json.Unmarshal(r.Data(), &q)
		_ = r.RespondJSON(l.page(q.After))
	}), micro.WithEndpointSubject(bus.EndpointFiles+"."+bus.Token(node)), micro.WithEndpointQueueGroupDisabled())
}

// page is the files of the baseline whose paths come after one, as many as a message takes.
func (l listing) page(after string) bus.FilesPage {
	book := l.f.drift.book()
	p := bus.FilesPage{
		Node: l.f.node, Baseline: book.Files.Digest(), Known: book.Files != nil, Version: book.Version, Ignore: l.f.cfg.Ignore, Files: []bus.HomeFile{},
	}
	size := 0
	for _, name := range book.Files.Names() {
		if name <= after {
			continue
		}
		if size > pageBytes {
			p.More = true
			break
		}
		f := book.Files[name]
		p.Files = append(p.Files, bus.HomeFile{Path: name, SHA256: f.SHA256, Size: f.Size, Mode: uint32(f.Mode)})
		size += len(name) + 160
	}
	return p
}
