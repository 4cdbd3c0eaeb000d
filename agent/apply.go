package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/atomicfile"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

// errUndone is returned by a try that had stopped the server and was taken back.
var errUndone = errors.New("taken back")

// apply brings one patch into the home. The artifact is fetched and checked completely before anything else; then the node
// waits for its turn.
func (f *follower) apply(ctx context.Context, a patch.Announcement) error {
	started := time.Now()
	defer f.setWants("")
	if err := f.waitToFetch(ctx, a); err != nil {
		return err
	}
	if err := f.fetch(ctx, a); err != nil {
		return err
	}
	m, signer, err := f.verify(a, false)
	if err != nil {
		return err
	}
	turn := f.turn(a)
	if _, err := f.resolve(ctx, turn, a, m); err != nil {
		return err
	}
	if err := f.witness.spare(ctx); err != nil { // a turn that it cannot use would keep the others waiting
		f.setNext("")
		return err
	}
	f.setNext(a.ID)
	err = turn.Wait(ctx, f.waits(ctx, a)) // for the night, perhaps, or until somebody approves it
	f.giver.set(nil)
	if err != nil {
		return err
	}
	f.setState("applying")
	if err := f.trust.recheck(ctx, f.client.JS, signer); err != nil {
		return err
	}
	seen := glanceAt(f.home, m)
	keep, err := f.resolve(ctx, turn, a, m) // a turn may come hours later
	if err != nil {
		return err
	}
	return f.bringIn(ctx, turn, a, change{manifest: m, started: started, keep: keep, seen: seen})
}

func (f *follower) turn(a patch.Announcement) rollout.Turn {
	return rollout.Turn{JS: f.client.JS, Patch: a.ID, Node: f.node, Every: f.cfg.PatchEvery}
}

// fetchedByAll is the size of an artifact that every node may fetch at once, in bytes.
const fetchedByAll = 1 << 20

// waits is what there is to do while this node waits for its turn.
func (f *follower) waits(ctx context.Context, a patch.Announcement) func(why string) {
	return func(why string) {
		f.setState(stateWaiting + why)
		f.mender.postpone(fmt.Sprintf("patch %s comes first, which waits for %s; the files are brought back after that", a.ID, why))
		f.give(ctx)
	}
}

// waitToFetch keeps a fleet from fetching a large artifact all at once: the Booster lets the nodes fetch it whose turn is near. It says that it wants the
// artifact until it has it (setNext), or the try is over: the Booster counts who is at it.
func (f *follower) waitToFetch(ctx context.Context, a patch.Announcement) error {
	if a.Size <= fetchedByAll || f.fetched(a) {
		return nil
	}
	f.setWants(a.ID)
	err := f.turn(a).WaitToFetch(ctx, f.waits(ctx, a))
	f.setState("applying")
	return err
}

// fetched tells whether an earlier try has fetched the artifact; verify looks at its content.
func (f *follower) fetched(a patch.Announcement) bool {
	info, err := os.Stat(f.dir.artifact(a.ID))
	return err == nil && info.Size() == a.Size
}

// fetch downloads the artifact into the data directory, unless an earlier try has.
func (f *follower) fetch(ctx context.Context, a patch.Announcement) error {
	if a.Size > patch.DefaultLimit {
		return fmt.Errorf("%w: its artifact has more than %d bytes", patch.ErrInvalid, int64(patch.DefaultLimit))
	}
	if f.fetched(a) {
		return nil
	}
	err := atomicfile.Create(f.dir.artifact(a.ID), 0o600, func(w io.Writer) error { return patch.Fetch(ctx, f.client.JS, a, w) })
	if err != nil {
		return fmt.Errorf("fetch artifact: %w", err)
	}
	return nil
}

// verify checks the fetched artifact to its last byte, its signature, and that it is what was announced; signer names the key. A bad one is
// removed, so that it is fetched anew if it should come to that.
func (f *follower) verify(a patch.Announcement, whole bool) (m patch.Manifest, signer string, err error) {
	rules, err := f.trust.rules()
	if err != nil {
		return m, "", err
	}
	artifact, err := os.Open(f.dir.artifact(a.ID))
	if err != nil {
		return m, "", fmt.Errorf("open artifact: %w", err)
	}
	defer func() { _ = artifact.Close() }()
	sum := sha256.New()
	m, err = patch.Verify(io.TeeReader(artifact, sum), patch.DefaultLimit, func(keyID string, manifest, signature []byte) error {
		signer = keyID
		return rules(keyID, manifest, signature)
	})
	if err == nil && hex.EncodeToString(sum.Sum(nil)) != a.SHA256 {
		err = fmt.Errorf("staged artifact: %w", patch.ErrMissing)
	}
	if err == nil {
		err = a.CheckManifest(m)
	}
	if err == nil && m.Whole != whole {
		err = fmt.Errorf("%w: it holds all files of a server; those are for new servers, and not announced", patch.ErrInvalid)
	}
	if err != nil {
		_ = os.Remove(artifact.Name())
	}
	return m, signer, err
}

// change is what a patch is about to do to the home.
type change struct {
	manifest patch.Manifest
	started  time.Time
	keep     []string // paths that stay as they are here
	seen     glance   // the files, before it was looked for contradictions
}

// bringIn applies the patch in this node's turn. Until the server has stopped, if it must, nobody notices a failure. From the first change on the patch goes
// through, whatever happens to the turn: either the server is healthy with it, or everything is taken back.
func (f *follower) bringIn(ctx context.Context, turn rollout.Turn, a patch.Announcement, c change) error {
	log := f.log.With().Str(logging.Patch, a.ID).Logger()
	if err := f.stage(a, c.started, nil, c.keep); err != nil {
		return err
	}
	f.keepUndo(a)
	err := f.sameHome() // the turn may have come hours later
	if err == nil {
		err = f.witness.spare(ctx)
	}
	if err == nil {
		err = turn.Check(ctx) // staging takes its time
	}
	if err != nil {
		if errors.Is(err, errNeeded) {
			f.setNext("")
		}
		return errors.Join(err, f.journal.Restore(""), f.journal.End())
	}
	log.Info().Str("restart", f.journal.Hooks().Restarted()).Msg("applying patch")
	if err := f.makeWay(f.journal.Hooks()); err != nil {
		return errors.Join(err, f.takeBack(ctx, ""))
	}
	// So does a stop. A Booster that does not answer just now has not ended the turn.
	if err := turn.Check(ctx); errors.Is(err, rollout.ErrNoTurn) {
		log.Warn().Err(err).Msg("the turn ended before the patch was in place; taking everything back")
		return errors.Join(err, f.takeBack(ctx, ""))
	}
	err = f.stillFits(c)
	if err == nil {
		err = f.journal.Switch()
	}
	if err != nil {
		log.Error().Err(err).Msg("patch not put into place; taking everything back")
		if undo := f.takeBack(ctx, ""); undo != nil {
			return errors.Join(err, undo)
		}
		return fmt.Errorf("%w: %w", errUndone, err)
	}
	_ = os.Remove(f.dir.artifact(a.ID)) // it is not needed again, and the journal may need the room
	f.hooked = ""
	return f.prove(ctx)
}

// stillFits fails if a file was edited while its replacement was written and the server stopped, and the edit would be lost.
func (f *follower) stillFits(c change) error {
	touched := c.seen.touched(f.home)
	if len(touched) == 0 {
		return nil
	}
	conflicts, err := f.drift.conflicts(c.manifest)
	if err != nil {
		return err
	}
	lost := slices.DeleteFunc(conflicts, func(name string) bool { return !slices.Contains(touched, name) || slices.Contains(c.keep, name) })
	if len(lost) > 0 {
		return fmt.Errorf("%s edited while the patch was about to replace it", someOf(lost))
	}
	return nil
}

// stage writes the new files beside the old ones.
func (f *follower) stage(a patch.Announcement, started time.Time, remove, keep []string) error {
	artifact, err := os.Open(f.dir.artifact(a.ID))
	if err != nil {
		return fmt.Errorf("open artifact: %w", err)
	}
	defer func() { _ = artifact.Close() }()
	return f.journal.StageExact(artifact, patch.DefaultLimit, patch.Report{
		Node: f.node, Seq: a.Seq, Created: a.Created, From: patch.HomeVersion(f.home.FS()), Started: started,
	}, remove, keep...)
}
