package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/omflow-booster/omflow-booster/broker/audit"
	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/snapshot"
)

// growth ends the growth from one Booster to two, see grow.go: it restores the queue into the cluster.
type growth struct {
	cluster  *cluster
	founding *founding
	move     *move
}

func newGrowth(c *cluster, f *founding, m *move) *growth {
	return &growth{cluster: c, founding: f, move: m}
}

// open tells whether there is a queue to bring into the cluster.
func (g *growth) open() bool { return g.move.growing.Load() }

// finish brings the streams into the cluster, has them checked against the snapshot, and only then lets the old store go.
func (g *growth) finish(ctx context.Context, v *view) error {
	if err := g.founding.othersAgree(ctx, v); err != nil {
		return err
	}
	src, err := snapshot.OpenDir(g.move.store.path(growthDir))
	if err != nil {
		return fmt.Errorf("bring the queue into the cluster: %w", err)
	}
	defer func() { _ = src.Close() }()
	if err := g.outwaitSweep(src.Manifest()); err != nil {
		return err
	}
	done, err := snapshot.Restore(ctx, g.cluster.node.js, src, snapshot.RestoreOptions{
		Replicas: replicas(v), Progress: g.move.progress("restore"), Finish: g.move.store.restored, Finished: g.move.store.bootState().Restored,
	})
	var occupied *snapshot.OccupiedError
	if errors.As(err, &occupied) {
		return fmt.Errorf("bring the queue into the cluster: %w: the other Booster has it from a growth that was given up, or from elsewhere; "+
			"stop the other Booster, empty its data directory, and start it again", err)
	}
	if err != nil {
		return fmt.Errorf("bring the queue into the cluster: %w", err)
	}
	messages, bytes := src.Manifest().Totals()
	g.cluster.log.Info().Uint64("messages", messages).Uint64("bytes", bytes).Int("streams", len(done)).Msg("queue restored and checked")
	if err := g.move.reach("streams restored"); err != nil {
		return err
	}
	making, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := bus.Ensure(making, g.cluster.node.js, g.founding.room.layout(replicas(v))); err != nil { // what is in no snapshot: heartbeats
		return err
	}
	if err := g.flushMembers(ctx); err != nil {
		return fmt.Errorf("bring the queue into the cluster: %w", err)
	}
	if err := g.move.reach("new store flushed"); err != nil {
		return err
	}
	return g.move.grown()
}

// flushMembers has every member that holds a copy of a stream make it durable. The server does not flush what it restores, and
// a power cut must not take the new copies once the old store is gone.
func (g *growth) flushMembers(ctx context.Context) error {
	v, err := g.cluster.look(ctx)
	if err != nil {
		return err
	}
	members := map[string]bool{}
	for _, s := range v.streams {
		members[s.leader] = true
		for _, p := range s.members {
			members[p.Name] = true
		}
	}
	delete(members, "")
	for member := range members {
		call, cancel := context.WithTimeout(ctx, time.Minute)
		reply, err := g.cluster.node.sys.RequestWithContext(call, bus.AuditSubject(audit.AskFlush, member), nil)
		cancel()
		if errors.Is(err, nats.ErrNoResponders) && member != g.cluster.name { // an older program: it flushes what it copies, as every member does
			g.cluster.log.Warn().Str("member", member).
				Msg("this member does not answer, so what was restored there is flushed by the system, within a minute")
			continue
		}
		var answer struct {
			Error string `json:"error"`
		}
		if err == nil {
			err = json.Unmarshal(reply.Data, &answer)
		}
		if err == nil && answer.Error != "" {
			err = errors.New(answer.Error)
		}
		if err != nil {
			return fmt.Errorf("flush the new store of %s: %w", member, err)
		}
	}
	return nil
}

// outwaitSweep keeps a restore away from the moment, 30 s after its start, at which a server deletes what it holds and the
// cluster does not know of (nats-server, checkForOrphans): a consumer whose stream is being restored is such. A restore that
// takes longer than expected, and is hit, is begun again by the next look.
func (g *growth) outwaitSweep(m snapshot.Manifest) error {
	const sweep, each, second = 31 * time.Second, 1500 * time.Millisecond, 2_000 // messages in a second, on a slow machine
	var takes time.Duration
	for _, s := range m.Streams {
		if !slices.Contains(g.move.store.bootState().Restored, s.Name) {
			takes += each + time.Duration(s.Messages/second)*time.Second
		}
	}
	if age := time.Since(g.cluster.node.started); age < sweep && age+takes > sweep-time.Second {
		return fmt.Errorf("waiting until the server has cleaned up, %s after its start, before the queue is restored", sweep)
	}
	return nil
}
