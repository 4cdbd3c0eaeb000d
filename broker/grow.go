package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/omflow-booster/omflow-booster/broker/audit"
	"github.com/omflow-booster/omflow-booster/internal/atomicfile"
	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/snapshot"
)

// Growing from one Booster to two. A server that opens a store of a single one as a member of a cluster would delete every
// stream in it, so the streams travel through a snapshot. Each step is written down in booster.json before the next begins;
// whatever ends it in the middle, the next start goes on from there, and until the last step the old store is whole.
//
//	alone ──snapshot──▶ taken ──old store set aside, mode=cluster──▶ restoring ──other Booster there, streams
//	  ▲                   │                                              │        restored and checked──▶ "" (old store removed)
//	  └── HA_BOOSTER_IP unset again: old store put back ◀────────────────┘
const (
	growthTaken     = "snapshot taken"
	growthRestoring = "restoring"

	growthDir  = "growth"               // the snapshot
	storeAside = "jetstream.standalone" // the old store, until the new one is checked
)

// foundingPause is how long the answers to bus.SubjectFounding have to come in.
const foundingPause = 500 * time.Millisecond

func (s *store) path(name string) string { return filepath.Join(s.dir, name) }

func (s *store) growing() bool { return s.bootState().Growth != "" }

// moving tells whether the streams are on their way from one store into another.
func (s *store) moving() bool { return s.growing() || s.bootState().Shrink != "" }

// brings tells whether there is a snapshot to restore. One that cannot be looked at is one: opening it says why.
func (s *store) brings() bool {
	there, err := s.has(growthDir)
	return s.growing() && (there || err != nil)
}

// has tells whether something is in the data directory. What cannot be looked at is not absent: absence ends in a removal.
func (s *store) has(name string) (bool, error) {
	_, err := os.Stat(s.path(name))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// advance writes the next step of the growth down.
func (s *store) advance(mode, growth string) error {
	return s.change(func(m *bootState) { m.Mode, m.Growth, m.Restored = mode, growth, nil })
}

// restored writes down that a stream is in the cluster and checked. Workers use it at once, so it must not be brought there again.
func (s *store) restored(stream string) error {
	return s.change(func(m *bootState) { m.Restored = append(m.Restored, stream) })
}

// prepareGrowth brings the store of a single Booster to where its server can be started as a member of a cluster.
func (b *Broker) prepareGrowth(ctx context.Context) error {
	s := b.store
	if s.bootState().Shrink != "" { // told to go on alone, and there is another Booster now
		return s.bringAlong()
	}
	if s.bootState().Mode == modeCluster {
		return nil
	}
	if s.bootState().Growth != growthTaken {
		if err := b.takeSingle(ctx); err != nil {
			return fmt.Errorf("grow to two Boosters: %w; the queue is untouched", err)
		}
		if err := b.reach("snapshot taken"); err != nil {
			return err
		}
		if err := s.advance(modeStandalone, growthTaken); err != nil {
			return err
		}
	}
	if err := b.reach("growth noted"); err != nil {
		return err
	}
	if err := s.setAside(storeAside); err != nil {
		return fmt.Errorf("grow to two Boosters: %w", err)
	}
	if err := b.reach("store set aside"); err != nil {
		return err
	}
	return s.advance(modeCluster, growthRestoring)
}

// takeSingle starts the old store for nobody but us, and takes a snapshot of it.
func (b *Broker) takeSingle(ctx context.Context) error {
	dir := b.store.path(growthDir)
	if err := os.RemoveAll(dir); err != nil { // of an attempt that ended in the middle
		return err
	}
	entries, err := os.ReadDir(b.store.path(storeName))
	switch {
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return err
	case len(entries) == 0:
		return nil // nothing to bring: it never served
	}
	b.log.Info().Msg("growing from one Booster to two: taking a snapshot")
	single, err := b.startHidden(ctx, Sync{Interval: singleSync})
	if err != nil {
		return err
	}
	defer single.stop()
	m, err := snapshot.Take(ctx, single.js, dir, snapshot.TakeOptions{Progress: b.progress("snapshot")})
	if err != nil {
		return err
	}
	messages, bytes := m.Totals()
	b.log.Info().Uint64("messages", messages).Uint64("bytes", bytes).Int("streams", len(m.Streams)).Msg("snapshot taken")
	if !worthBringing(m) {
		return os.RemoveAll(dir)
	}
	return nil
}

// startHidden starts a single server on the store, for nobody but this process.
func (b *Broker) startHidden(ctx context.Context, sync Sync) (*node, error) {
	opts := nodeOptions(b.name(), b.store.dir, sync)
	opts.Host, opts.Port = "127.0.0.1", -1
	starting, cancel := context.WithTimeout(ctx, b.cfg.ReadyAfter)
	defer cancel()
	return startNode(starting, opts, b.log)
}

// worthBringing tells a queue from the store of a Booster that was started and never used.
func worthBringing(m snapshot.Manifest) bool {
	for _, s := range m.Streams {
		if s.Name != bus.BucketStream(bus.BucketControl) && s.Messages > 0 {
			return true
		}
	}
	return false
}

// setAside moves the old store out of the server's way. It may be called again.
func (s *store) setAside(aside string) error {
	if there, err := s.has(storeName); err != nil || !there {
		return err
	}
	if err := os.Rename(s.path(storeName), s.path(aside)); err != nil {
		return err
	}
	return atomicfile.SyncDir(s.dir)
}

// abandonGrowth puts the store of a single Booster back, because HA_BOOSTER_IP is not set any more before the growth was complete.
func (s *store) abandonGrowth() error {
	member, err := s.has(memberAside)
	if err != nil {
		return err
	}
	if member { // it was about to be a member of a new cluster, see bringAlong
		return s.change(func(m *bootState) { m.Mode, m.Growth, m.Shrink = modeCluster, "", shrinkTaken })
	}
	old, err := s.has(storeAside)
	if err != nil {
		return err
	}
	if old {
		if err := os.RemoveAll(s.path(storeName)); err != nil { // half a copy of it
			return err
		}
		if err := os.Rename(s.path(storeAside), s.path(storeName)); err != nil {
			return err
		}
		if err := atomicfile.SyncDir(s.dir); err != nil {
			return err
		}
	}
	if err := s.advance(modeStandalone, ""); err != nil {
		return err
	}
	return os.RemoveAll(s.path(growthDir))
}

// finishGrowth brings the streams into the cluster, has them checked against the snapshot, and only then lets the old store go.
func (b *Broker) finishGrowth(ctx context.Context, v *view) error {
	if err := b.othersAgree(ctx, v); err != nil {
		return err
	}
	src, err := snapshot.OpenDir(b.store.path(growthDir))
	if err != nil {
		return fmt.Errorf("bring the queue into the cluster: %w", err)
	}
	defer func() { _ = src.Close() }()
	if err := b.outwaitSweep(src.Manifest()); err != nil {
		return err
	}
	done, err := snapshot.Restore(ctx, b.js, src, snapshot.RestoreOptions{
		Replicas: replicas(v), Progress: b.progress("restore"), Finish: b.store.restored, Finished: b.store.bootState().Restored,
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
	b.log.Info().Uint64("messages", messages).Uint64("bytes", bytes).Int("streams", len(done)).Msg("queue restored and checked")
	if err := b.reach("streams restored"); err != nil {
		return err
	}
	making, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := bus.Ensure(making, b.js, b.layout(replicas(v))); err != nil { // what is in no snapshot: heartbeats
		return err
	}
	if err := b.flushMembers(ctx); err != nil {
		return fmt.Errorf("bring the queue into the cluster: %w", err)
	}
	if err := b.reach("new store flushed"); err != nil {
		return err
	}
	return b.growthDone()
}

// flushMembers has every member that holds a copy of a stream make it durable. The server does not flush what it restores, and
// a power cut must not take the new copies once the old store is gone.
func (b *Broker) flushMembers(ctx context.Context) error {
	v, err := b.look(ctx)
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
		reply, err := b.sys.RequestWithContext(call, bus.AuditSubject(audit.AskFlush, member), nil)
		cancel()
		if errors.Is(err, nats.ErrNoResponders) && member != b.name() { // an older program: it flushes what it copies, as every member does
			b.log.Warn().Str("member", member).
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
func (b *Broker) outwaitSweep(m snapshot.Manifest) error {
	const sweep, each, second = 31 * time.Second, 1500 * time.Millisecond, 2_000 // messages in a second, on a slow machine
	var takes time.Duration
	for _, s := range m.Streams {
		if !slices.Contains(b.store.bootState().Restored, s.Name) {
			takes += each + time.Duration(s.Messages/second)*time.Second
		}
	}
	if age := time.Since(b.joined); age < sweep && age+takes > sweep-time.Second {
		return fmt.Errorf("waiting until the server has cleaned up, %s after its start, before the queue is restored", sweep)
	}
	return nil
}

// growthDone forgets the single life. The old store goes last: until then the note in booster.json says that it is not needed any more.
func (b *Broker) growthDone() error {
	if err := b.store.advance(modeCluster, ""); err != nil {
		return err
	}
	b.log.Info().Msg("grown from one Booster to two")
	return b.store.forgetOld()
}

// forgetOld removes the snapshot and the store that it was taken from.
func (s *store) forgetOld() error {
	return errors.Join(os.RemoveAll(s.path(storeAside)), os.RemoveAll(s.path(memberAside)), os.RemoveAll(s.path(growthDir)))
}

// othersAgree waits until the other Booster has said what it brings along: a leader that makes empty streams in the meantime would be in
// the way of those that are restored.
func (b *Broker) othersAgree(ctx context.Context, v *view) error {
	inbox := b.nc.NewInbox()
	sub, err := b.nc.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := b.nc.PublishRequest(bus.SubjectFounding, inbox, nil); err != nil {
		return err
	}
	deadline, cancel := context.WithTimeout(ctx, foundingPause)
	defer cancel()
	others := 0
	for {
		msg, err := sub.NextMsgWithContext(deadline)
		if err != nil {
			break
		}
		name, growing := msg.Header.Get("Booster"), msg.Header.Get("Growing") != ""
		if name == b.name() {
			continue
		}
		others++
		switch {
		case growing && b.growing.Load():
			return fmt.Errorf("both Boosters, %s too, have a queue of their own, and two queues are not mixed: "+
				"unset HA_BOOSTER_IP on one of them and let its queue run empty first", name)
		case growing:
			return fmt.Errorf("waiting for %s, which brings its queue along", name)
		}
	}
	if others == 0 && v.size > 1 {
		return errors.New("waiting for the other Booster to say whether it has a queue")
	}
	return nil
}

// answerFounding tells the other Booster whether this one has a queue to bring along.
func (b *Broker) answerFounding() (stop func(), err error) {
	sub, err := b.nc.Subscribe(bus.SubjectFounding, func(msg *nats.Msg) {
		reply := nats.NewMsg(msg.Reply)
		reply.Header.Set("Booster", b.name())
		if b.growing.Load() {
			reply.Header.Set("Growing", "true")
		}
		_ = b.nc.PublishMsg(reply) // unanswered, the other one asks again
	})
	if err != nil {
		return nil, fmt.Errorf("answer the other Booster: %w", err)
	}
	return func() { _ = sub.Unsubscribe() }, nil
}

// progress logs how far a long transfer is, every few seconds.
func (b *Broker) progress(what string) func(snapshot.Progress) {
	said := time.Now()
	return func(p snapshot.Progress) {
		if time.Since(said) > 5*time.Second {
			said = time.Now()
			b.log.Info().Str("stream", p.Stream).Int("of", p.Streams).Int("stream_no", p.Index).Int64("bytes", p.Done).Int64("total", p.Total).
				Msg(what)
		}
	}
}

// reach marks a point at which a test ends the growth.
func (b *Broker) reach(point string) error {
	if b.interrupt == nil {
		return nil
	}
	return b.interrupt(point)
}
