package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/omflow-booster/omflow-booster/internal/atomicfile"
	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

const (
	undoKept  = 10              // ways back that an agent keeps, those of the last patches
	undoLimit = 5 * time.Minute // for publishing one
	undoEnd   = ".undo.tar.zst"
)

// keepUndo writes down how to take the staged patch back, if this host may sign: as a patch of its own, which anybody may order to be published. Without
// it the patch is applied all the same.
func (f *follower) keepUndo(a patch.Announcement) {
	signer, err := f.trust.signer()
	if err == nil {
		err = f.writeUndo(a.ID, signer)
	}
	switch {
	case errors.Is(err, patch.ErrInvalid): // nothing changes here
	case err != nil:
		f.log.Debug().Err(err).Str(logging.Patch, a.ID).Msg("no way back kept for this patch")
	}
}

func (f *follower) writeUndo(id string, signer patch.Signer) error {
	if err := os.MkdirAll(f.dir.undo(""), 0o700); err != nil {
		return err
	}
	err := atomicfile.Create(f.dir.undo(id), 0o600, func(w io.Writer) error {
		_, err := f.journal.Undo(w, signer, f.node)
		return err
	})
	if err != nil {
		return err
	}
	f.forgetUndos(id)
	return nil
}

// forgetUndos removes all but the last ways back, by the order in which this server had its patches: an id says what the clock of its publisher said.
func (f *follower) forgetUndos(newest string) {
	all, _ := filepath.Glob(f.dir.undo("*"))
	kept := []string{f.dir.undo(newest)}
	for _, e := range slices.Backward(f.ledger.read().Entries) {
		if name := f.dir.undo(e.Patch); len(kept) < undoKept && e.Patch != newest && slices.Contains(all, name) {
			kept = append(kept, name)
		}
	}
	for _, name := range all {
		if !slices.Contains(kept, name) {
			_ = os.Remove(name)
		}
	}
}

// undoing answers to those who want a patch taken back everywhere.
type undoing struct {
	f *follower
}

// addTo answers to everybody who can take a patch back, and publishes what does if this one is asked.
func (u undoing) addTo(group micro.Group, node string) error {
	err := group.AddEndpoint(bus.EndpointUndo, micro.HandlerFunc(func(r micro.Request) {
		if offer := u.offer(string(r.Data())); offer != nil {
			_ = r.RespondJSON(offer)
		}
	}), micro.WithEndpointQueueGroupDisabled())
	if err != nil {
		return err
	}
	return group.AddEndpoint(bus.EndpointUndoBy, micro.HandlerFunc(func(r micro.Request) {
		var order bus.UndoOrder
		var a patch.Announcement
		var err error
		if text := r.Headers().Get(bus.HeaderUndoOrder); text != "" { // a former release sends none
			err = json.Unmarshal([]byte(text), &order)
		}
		if err == nil {
			a, err = u.publish(string(r.Data()), order)
		}
		if err != nil {
			_ = r.Error("500", err.Error(), nil)
			return
		}
		_ = r.RespondJSON(a)
	}), micro.WithEndpointSubject(bus.EndpointUndoBy+"."+bus.Token(node)), micro.WithEndpointQueueGroupDisabled())
}

// offer is nil without a way back.
func (u undoing) offer(id string) *bus.UndoOffer {
	if !patch.ValidID(id) {
		return nil
	}
	in, err := os.Open(u.f.dir.undo(id))
	if err != nil {
		return nil
	}
	defer func() { _ = in.Close() }()
	if _, err := u.f.trust.signer(); err != nil {
		return nil // another server has to sign it
	}
	m, err := patch.Verify(in, patch.DefaultLimit, func(string, []byte, []byte) error { return nil })
	if err != nil || m.Undoes != id {
		return nil
	}
	return &bus.UndoOffer{Node: u.f.node, Files: len(m.Files), Deletions: len(m.Deletions)}
}

// publish announces what takes a patch back, in the name of who has ordered it now. A rollback that is announced already is the answer to a second order:
// one patch is enough, and another one would restart every server again. It does not touch what the follower's goroutine uses.
func (u undoing) publish(id string, order bus.UndoOrder) (a patch.Announcement, err error) {
	switch {
	case !patch.ValidID(id):
		return a, fmt.Errorf("%q is not the id of a patch", id)
	case len(order.Note) > patch.MaxNoteBytes:
		return a, fmt.Errorf("the note has %d bytes; give at most %d", len(order.Note), patch.MaxNoteBytes)
	}
	ctx, cancel := context.WithTimeout(context.Background(), undoLimit)
	defer cancel()
	js := u.f.client.JS
	if a, _, err = rollout.Rollback(ctx, js, id); err != nil || a.ID != "" {
		return a, err
	}
	rules, err := u.f.trust.rulesNow(ctx, js)
	if err != nil {
		return a, err
	}
	artifact, err := u.renew(id, rules, order)
	if errors.Is(err, fs.ErrNotExist) {
		return a, fmt.Errorf("this server has no way back from %s any more", id)
	}
	if err != nil {
		return a, err
	}
	defer func() { _ = os.Remove(artifact) }()
	renewed, err := patch.Store(ctx, js, artifact, rules, nil)
	if err != nil {
		return a, err
	}
	if a, err = rollout.AnnounceRollback(ctx, js, renewed); err != nil || a.ID != renewed.ID {
		return a, err // another server was asked at the same time, and was faster
	}
	u.f.log.Warn().Str(logging.Patch, a.ID).Str("undoes", id).Str("by", a.Author).Str("note", a.Note).
		Msg("patch is taken back everywhere, by order of an operator")
	return a, nil
}

// renew makes of a way back that is kept one that is published: signed now, with the note and the name of who has ordered it. The caller removes the file.
func (u undoing) renew(id string, rules patch.Trust, order bus.UndoOrder) (artifact string, err error) {
	in, err := os.Open(u.f.dir.undo(id))
	if err != nil {
		return "", err
	}
	defer func() { _ = in.Close() }()
	signer, err := u.f.trust.signer()
	if err != nil {
		return "", err
	}
	out, err := os.CreateTemp(u.f.dir.undo(""), "."+id+".renewed.tar.zst.*") // what a killed agent leaves is swept
	if err != nil {
		return "", err
	}
	_, err = patch.Renew(out, in, rules, patch.Options{
		Author: cmp.Or(order.By, u.f.node), Note: cmp.Or(order.Note, "takes back "+id), Signer: signer,
	})
	if err = errors.Join(err, out.Close()); err != nil {
		_ = os.Remove(out.Name())
		return "", err
	}
	return out.Name(), nil
}

// undo is where the way back from a patch is kept.
func (d *dataDir) undo(patchID string) string {
	if patchID == "" {
		return filepath.Join(d.path, undoDir)
	}
	return filepath.Join(d.path, undoDir, patchID+undoEnd)
}
