package rollout

import (
	"context"
	"fmt"
	"maps"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// What holds where a server has changed a file that a patch changes, too.
const (
	TakePatch  = "patch"  // the patch's file replaces the server's
	TakeServer = "server" // the server's file stays; the rest of the patch is applied
)

// Everywhere is the name of all servers in Resolve.
const Everywhere = "*"

// Resolve orders what holds where a patch and a server contradict each other; node is Everywhere or the name of one.
func Resolve(ctx context.Context, js jetstream.JetStream, patch, node, take string) error {
	if take != TakePatch && take != TakeServer {
		return fmt.Errorf("%q cannot hold; take %s or %s", take, TakePatch, TakeServer)
	}
	return change(ctx, js, patch, func(p *Plan) error {
		if p.State == StateAborted {
			return fmt.Errorf("the rollout of %s was aborted by %s; there is nothing to resolve", patch, p.By)
		}
		p.Resolutions = maps.Clone(p.Resolutions)
		if p.Resolutions == nil || node == Everywhere { // the last word is for all
			p.Resolutions = map[string]string{}
		}
		p.Resolutions[node] = take
		return nil
	})
}

// resolution is what was ordered for a node; empty: nothing yet.
func (p Plan) resolution(node string) string {
	if take := p.Resolutions[node]; take != "" {
		return take
	}
	return p.Resolutions[Everywhere]
}

// Resolve waits until find tells of no conflict any more, or somebody has said what holds: keep is true if that is what the
// server has. say and failures are as for Wait.
func (t Turn) Resolve(ctx context.Context, find func() (conflict string, err error), say func(why string)) (keep bool, err error) {
	notify, stop := bus.Notify(t.JS.Conn(), bus.OrderSubject(t.Patch))
	defer stop()
	for {
		conflict, err := find()
		if err != nil || conflict == "" {
			return false, err
		}
		p, _, err := Read(ctx, t.JS, t.Patch)
		switch {
		case ctx.Err() != nil:
			return false, ctx.Err()
		case err == nil && p.State == StateAborted:
			return false, fmt.Errorf("%w by %s: %s", ErrAborted, p.By, p.Reason)
		case err == nil && p.resolution(t.Node) != "":
			return p.resolution(t.Node) == TakeServer, nil
		}
		say(conflict)
		bus.Wait(ctx, notify, t.Every)
	}
}
