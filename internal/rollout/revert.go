package rollout

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// FindRevert finds the announced patch that takes another one back; it has no ID if there is none. One whose rollout was aborted
// does not count, and aborted is the place of the last such one in PATCH. One that failed on a server counts: its rollout can
// be resumed.
func FindRevert(ctx context.Context, js jetstream.JetStream, patchID string) (a patch.Announcement, aborted uint64, err error) {
	list, err := patch.List(ctx, js)
	if err != nil {
		return a, 0, err
	}
	for _, a := range list {
		if a.Reverts != patchID {
			continue
		}
		p, _, err := Read(ctx, js, a.ID)
		if err != nil && !errors.Is(err, bus.ErrNewer) {
			return patch.Announcement{}, 0, err
		}
		if p.State != StateAborted {
			return a, aborted, nil
		}
		aborted = a.Seq
	}
	return patch.Announcement{}, aborted, nil
}

// AnnounceRevert announces a patch that takes another one back, unless that is done already. It returns the one that stands:
// of several that are announced at the same time, exactly one.
func AnnounceRevert(ctx context.Context, js jetstream.JetStream, revert patch.Announcement) (patch.Announcement, error) {
	standing, aborted, err := FindRevert(ctx, js, revert.Reverts)
	if err != nil || standing.ID != "" {
		return standing, err
	}
	a, err := patch.AnnounceOnce(ctx, js, revert, fmt.Sprintf("undo-%s-%d", revert.Reverts, aborted))
	if err != nil {
		return a, err
	}
	for { // a copy of the stream may have it a moment later
		standing, last, err := FindRevert(ctx, js, revert.Reverts)
		if err != nil || standing.ID != "" {
			return standing, err
		}
		if last > aborted { // somebody was quick
			return a, fmt.Errorf("the rollback of %s was announced, and aborted at once", revert.Reverts)
		}
		if !bus.Sleep(ctx, 100*time.Millisecond) {
			return a, fmt.Errorf("%s was announced, and is not found in %s: %w", a.ID, bus.StreamPatch, ctx.Err())
		}
	}
}
