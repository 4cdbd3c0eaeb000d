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

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/atomicfile"
	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

const (
	revertsKept   = 10              // ways back that an agent keeps, those of the last patches
	revertTimeout = 5 * time.Minute // for publishing one
	revertEnd     = ".undo.tar.zst"
)

// reverter keeps ways back from the last patches, and answers to those who want a patch reverted everywhere.
type reverter struct {
	node    string
	dir     *dataDir
	js      jetstream.JetStream
	trust   *trust
	ledger  *ledger
	journal *patch.Journal
	log     zerolog.Logger
}

func newReverter(r reverter) (*reverter, error) { return complete(&r) }

// keep writes down how to revert the staged patch, if this host may sign: as a patch of its own, which anybody may order to be
// published. Without it the patch is applied all the same.
func (rv *reverter) keep(a patch.Announcement) {
	signer, err := rv.trust.signer()
	if err == nil {
		err = rv.write(a.ID, signer)
	}
	switch {
	case errors.Is(err, patch.ErrInvalid): // nothing changes here
	case err != nil:
		rv.log.Debug().Err(err).Str(logging.Patch, a.ID).Msg("no way back kept for this patch")
	}
}

func (rv *reverter) write(id string, signer patch.Signer) error {
	if err := os.MkdirAll(rv.dir.revert(""), 0o700); err != nil {
		return err
	}
	err := atomicfile.Create(rv.dir.revert(id), 0o600, func(w io.Writer) error {
		_, err := rv.journal.Revert(w, signer, rv.node)
		return err
	})
	if err != nil {
		return err
	}
	rv.forgetOld(id)
	return nil
}

// forgetOld removes all but the last ways back, by the order in which this server had its patches: an id says what the clock of its
// publisher said.
func (rv *reverter) forgetOld(newest string) {
	all, _ := filepath.Glob(rv.dir.revert("*"))
	kept := []string{rv.dir.revert(newest)}
	for _, e := range slices.Backward(rv.ledger.read().Entries) {
		if name := rv.dir.revert(e.Patch); len(kept) < revertsKept && e.Patch != newest && slices.Contains(all, name) {
			kept = append(kept, name)
		}
	}
	for _, name := range all {
		if !slices.Contains(kept, name) {
			_ = os.Remove(name)
		}
	}
}

// addTo answers to everybody who can take a patch back, and publishes what does if this one is asked.
func (rv *reverter) addTo(group micro.Group, node string) error {
	err := group.AddEndpoint(bus.EndpointRevert, micro.HandlerFunc(func(r micro.Request) {
		if offer := rv.offer(string(r.Data())); offer != nil {
			_ = r.RespondJSON(offer)
		}
	}), micro.WithEndpointQueueGroupDisabled())
	if err != nil {
		return err
	}
	return group.AddEndpoint(bus.EndpointRevertBy, micro.HandlerFunc(func(r micro.Request) {
		var order bus.RevertOrder
		var a patch.Announcement
		var err error
		if text := r.Headers().Get(bus.HeaderRevertOrder); text != "" { // a former release sends none
			err = json.Unmarshal([]byte(text), &order)
		}
		if err == nil {
			a, err = rv.publish(string(r.Data()), order)
		}
		if err != nil {
			_ = r.Error("500", err.Error(), nil)
			return
		}
		_ = r.RespondJSON(a)
	}), micro.WithEndpointSubject(bus.EndpointRevertBy+"."+bus.Token(node)), micro.WithEndpointQueueGroupDisabled())
}

// offer is nil without a way back.
func (rv *reverter) offer(id string) *bus.RevertOffer {
	if !patch.ValidID(id) {
		return nil
	}
	in, err := os.Open(rv.dir.revert(id))
	if err != nil {
		return nil
	}
	defer func() { _ = in.Close() }()
	if _, err := rv.trust.signer(); err != nil {
		return nil // another server has to sign it
	}
	m, err := patch.Verify(in, patch.DefaultLimit, func(string, []byte, []byte) error { return nil })
	if err != nil || m.Reverts != id {
		return nil
	}
	return &bus.RevertOffer{Node: rv.node, Files: len(m.Files), Deletions: len(m.Deletions)}
}

// publish announces what takes a patch back, in the name of who has ordered it now. A rollback that is announced already is the answer
// to a second order: one patch is enough, and another one would restart every server again. It does not touch what the updater's
// goroutine uses.
func (rv *reverter) publish(id string, order bus.RevertOrder) (a patch.Announcement, err error) {
	switch {
	case !patch.ValidID(id):
		return a, fmt.Errorf("%q is not the id of a patch", id)
	case len(order.Note) > patch.MaxNoteBytes:
		return a, fmt.Errorf("the note has %d bytes; give at most %d", len(order.Note), patch.MaxNoteBytes)
	}
	ctx, cancel := context.WithTimeout(context.Background(), revertTimeout)
	defer cancel()
	js := rv.js
	if a, _, err = rollout.FindRevert(ctx, js, id); err != nil || a.ID != "" {
		return a, err
	}
	rules, err := rv.trust.rulesNow(ctx, js)
	if err != nil {
		return a, err
	}
	artifact, err := rv.renew(id, rules, order)
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
	if a, err = rollout.AnnounceRevert(ctx, js, renewed); err != nil || a.ID != renewed.ID {
		return a, err // another server was asked at the same time, and was faster
	}
	rv.log.Warn().Str(logging.Patch, a.ID).Str("undoes", id).Str("by", a.Author).Str("note", a.Note).
		Msg("patch is taken back everywhere, by order of an operator")
	return a, nil
}

// renew makes of a way back that is kept one that is published: signed now, with the note and the name of who has ordered it. The
// caller removes the file.
func (rv *reverter) renew(id string, rules patch.Trust, order bus.RevertOrder) (artifact string, err error) {
	in, err := os.Open(rv.dir.revert(id))
	if err != nil {
		return "", err
	}
	defer func() { _ = in.Close() }()
	signer, err := rv.trust.signer()
	if err != nil {
		return "", err
	}
	out, err := os.CreateTemp(rv.dir.revert(""), "."+id+".renewed.tar.zst.*") // what a killed agent leaves is swept
	if err != nil {
		return "", err
	}
	_, err = patch.Renew(out, in, rules, patch.Options{
		Author: cmp.Or(order.By, rv.node), Note: cmp.Or(order.Note, "takes back "+id), Signer: signer,
	})
	if err = errors.Join(err, out.Close()); err != nil {
		_ = os.Remove(out.Name())
		return "", err
	}
	return out.Name(), nil
}

// revert is where the way back from a patch is kept.
func (d *dataDir) revert(patchID string) string {
	if patchID == "" {
		return filepath.Join(d.path, revertDir)
	}
	return filepath.Join(d.path, revertDir, patchID+revertEnd)
}
