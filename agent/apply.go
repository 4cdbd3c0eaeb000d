package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// turnTTL is the lease of the turn to apply a patch. All agents must use the same: see bus.Lock.
const turnTTL = 10 * time.Second

// apply brings one patch into the home. The artifact is fetched and checked completely before anything else; then the node
// waits for its turn.
func (f *follower) apply(ctx context.Context, a patch.Announcement) error {
	started := time.Now()
	if err := f.fetch(ctx, a); err != nil {
		return err
	}
	signer, err := f.verify(a)
	if err != nil {
		return err
	}
	lock := bus.Lock{JS: f.client.JS, Name: bus.LockPatchTurn, Holder: f.node, TTL: turnTTL}
	return lock.Run(ctx, func(turn context.Context) error {
		if f.ledger.read().knows(a.ID) {
			return nil // done in a turn that was lost afterwards
		}
		if err := f.trust.recheck(ctx, f.client.JS, signer); err != nil {
			return err
		}
		return f.takeTurn(ctx, turn, a, started)
	})
}

// fetch downloads the artifact into the data directory, unless an earlier try has.
func (f *follower) fetch(ctx context.Context, a patch.Announcement) error {
	if a.Size > patch.DefaultLimit {
		return fmt.Errorf("%w: its artifact has more than %d bytes", patch.ErrInvalid, int64(patch.DefaultLimit))
	}
	final := f.dir.artifact(a.ID)
	if info, err := os.Stat(final); err == nil && info.Size() == a.Size {
		return nil // verify looks at its content
	}
	temp, err := os.Create(final + ".part")
	if err != nil {
		return fmt.Errorf("stage artifact: %w", err)
	}
	err = patch.Fetch(ctx, f.client.JS, a, temp)
	if err == nil {
		err = temp.Sync()
	}
	err = errors.Join(err, temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), final)
	}
	if err != nil {
		_ = os.Remove(temp.Name())
		return fmt.Errorf("fetch artifact: %w", err)
	}
	return nil
}

// verify checks the fetched artifact to its last byte, its signature, and that it is what was announced; signer names the key. A bad one is
// removed, so that it is fetched anew if it should come to that.
func (f *follower) verify(a patch.Announcement) (signer string, err error) {
	rules, err := f.trust.rules()
	if err != nil {
		return "", err
	}
	artifact, err := os.Open(f.dir.artifact(a.ID))
	if err != nil {
		return "", fmt.Errorf("open artifact: %w", err)
	}
	defer func() { _ = artifact.Close() }()
	sum := sha256.New()
	m, err := patch.Verify(io.TeeReader(artifact, sum), patch.DefaultLimit, func(keyID string, manifest, signature []byte) error {
		signer = keyID
		return rules(keyID, manifest, signature)
	})
	if err == nil && hex.EncodeToString(sum.Sum(nil)) != a.SHA256 {
		err = fmt.Errorf("staged artifact: %w", patch.ErrMissing)
	}
	if err == nil {
		err = a.CheckManifest(m)
	}
	if err != nil {
		_ = os.Remove(artifact.Name())
	}
	return signer, err
}

// takeTurn applies the patch while turn lasts, that is, while no other node may. Up to the first rename everything can be
// taken back; from there on it goes through, whatever happens to the turn: a rename for each file takes no time. If it fails
// there, the server stays down: half a patch can do worse to tickets than one server less.
func (f *follower) takeTurn(ctx, turn context.Context, a patch.Announcement, started time.Time) error {
	log := f.log.With().Str(logging.Patch, a.ID).Logger()
	staged, err := f.stage(a)
	if err != nil {
		return err
	}
	defer func() { _ = staged.Discard() }() // what Commit has put into place is not there any more

	if err := f.witness.spare(ctx); err != nil {
		return err
	}
	log.Info().Msg("applying patch; stopping worker and server")
	if err := f.host.stop(); err != nil {
		return f.backToWork(ctx, err)
	}
	if err := turn.Err(); err != nil {
		log.Warn().Msg("the turn ended before the patch was in place; taking everything back")
		return f.backToWork(ctx, fmt.Errorf("turn ended: %w", err))
	}
	p, fresh := f.pendingFor(a, started)
	if err := f.ledger.change(func(l *page) { l.Pending = &p }); err != nil {
		return f.backToWork(ctx, err)
	}
	done, err := staged.Commit()
	if err != nil && fresh && !staged.Touched() {
		return f.backToWork(ctx, errors.Join(err, f.ledger.change(func(l *page) { l.Pending = nil })))
	}
	if err != nil {
		return fmt.Errorf("the server stays stopped until the patch is complete: %w", err)
	}
	r := f.applied(p, done)
	settled := f.settle(r)
	unhealthy := f.host.start(ctx)
	if unhealthy != nil && ctx.Err() == nil && settled == nil {
		r.State, r.Error, r.Finished = patch.StateFailed, "it is in place, but "+unhealthy.Error(), time.Now()
		return f.settle(r)
	}
	return settled
}

// pendingFor notes what is begun. fresh is false if an earlier try has begun it: then the version and time of that one hold.
func (f *follower) pendingFor(a patch.Announcement, started time.Time) (p pending, fresh bool) {
	if known := f.ledger.read(); known.isPending(a.ID) {
		return *known.Pending, false
	}
	return pending{ID: a.ID, Seq: a.Seq, Created: a.Created, From: patch.HomeVersion(f.home.FS()), Started: started}, true
}

func (f *follower) applied(p pending, done patch.Result) patch.Report {
	return patch.Report{
		Patch: p.ID, Node: f.node, Seq: p.Seq, Created: p.Created, State: patch.StateApplied,
		From: p.From, To: patch.HomeVersion(f.home.FS()),
		Files: done.Files, Bytes: done.Bytes, Deleted: done.Deleted, Started: p.Started, Finished: time.Now(),
	}
}

func (f *follower) stage(a patch.Announcement) (*patch.Staged, error) {
	artifact, err := os.Open(f.dir.artifact(a.ID))
	if err != nil {
		return nil, fmt.Errorf("open artifact: %w", err)
	}
	defer func() { _ = artifact.Close() }()
	return patch.Stage(f.home, artifact, patch.DefaultLimit)
}

// backToWork starts the host again after a try that has changed nothing, and returns why it failed. A home that an earlier
// try has left between two versions is not started.
func (f *follower) backToWork(ctx context.Context, cause error) error {
	if f.ledger.read().Pending != nil {
		return cause
	}
	if err := f.host.start(ctx); err != nil && ctx.Err() == nil {
		return errors.Join(cause, err)
	}
	return cause
}
