package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/buildinfo"
	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/snapshot"
)

// leaseRest is how long a lease stays before it is made shorter, by half: each worker has looked at it by then
// (worker/queue.go), and runs no step by the one before.
const leaseRest = time.Minute

// keepSingle compares the streams of a single Booster with what is wanted, until ctx ends.
func (b *Broker) keepSingle(ctx context.Context) {
	var last string
	for bus.Sleep(ctx, watchEvery) {
		v := &view{streams: map[string]streamView{}}
		err := b.lookAtStreams(ctx, v)
		if err == nil {
			err = b.keep(ctx, v)
		}
		switch {
		case err == nil:
			last = ""
		case ctx.Err() == nil && err.Error() != last:
			last = err.Error()
			b.log.Warn().Err(err).Msg("streams are not as they should be")
		}
	}
}

// keep brings every stream and the workers' consumer from what it is to what this program and its settings want: a setting was changed, a
// release wants a stream otherwise, the disk of a member has less room, somebody removed the consumer. What the server refuses keeps
// nothing else from being done.
func (b *Broker) keep(ctx context.Context, v *view) error {
	if _, answered := v.streams[bus.StreamWork]; !answered {
		return nil
	}
	errs := []error{b.gather(ctx, v)} // what was known before still is
	total, notes := b.storeBytes(v)
	notes = append(notes, b.placement...)
	layout := bus.Layout{StoreBytes: total, Lease: b.cfg.Lease}
	for _, name := range slices.Sorted(maps.Keys(v.streams)) {
		if err := b.keepStream(ctx, layout, v.streams[name]); err != nil {
			errs = append(errs, err)
			notes = append(notes, err.Error())
		}
	}
	errs = append(errs, b.keepWorkers(ctx, layout, v))
	left, err := b.retire(ctx, v)
	errs = append(errs, err)
	if left != "" {
		notes = append(notes, left)
	}
	b.note(notes)
	return errors.Join(errs...)
}

// note has the heartbeat say what an operator should know, and the log what is new.
func (b *Broker) note(notes []string) {
	before := b.notes.Swap(&notes)
	for _, n := range notes {
		if before == nil || !slices.Contains(*before, n) {
			b.log.Warn().Msg(n)
		}
	}
}

func (b *Broker) keepStream(ctx context.Context, layout bus.Layout, s streamView) error {
	if snapshot.Unfinished(s.config) { // a change would carry the restore along
		return nil
	}
	wanted, changes := layout.Adjust(s.config, s.bytes)
	if len(changes) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*callTimeout)
	defer cancel()
	if _, err := b.js.UpdateStream(ctx, wanted); err != nil {
		return fmt.Errorf("change %s of stream %s: %w", strings.Join(changes, ", "), s.config.Name, err)
	}
	b.log.Info().Str("stream", s.config.Name).Strs("changed", changes).Int64("max_bytes", wanted.MaxBytes).
		Msg("stream brought to what is wanted")
	return nil
}

// keepWorkers does so for the consumer. One that is gone is made again after a lease: a new one knows of no step that is
// running, and gives each to a second worker at once. Without a consumer no lease is renewed, so by then nothing runs.
func (b *Broker) keepWorkers(ctx context.Context, layout bus.Layout, v *view) error {
	if snapshot.Unfinished(v.streams[bus.StreamWork].config) { // the restore brings it
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	what := fmt.Sprintf("consumer %s of %s", bus.ConsumerWorkers, bus.StreamWork)
	consumer, err := b.js.Consumer(ctx, bus.StreamWork, bus.ConsumerWorkers)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		if b.workersGone.IsZero() {
			b.workersGone = time.Now()
			b.log.Warn().Msg(what + " is gone; it is made again when no worker holds a lease of it any more")
		}
		if time.Since(b.workersGone) < max(b.leaseSeen, layout.Lease) {
			return nil
		}
		if _, err := b.js.CreateConsumer(ctx, bus.StreamWork, layout.Workers()); err != nil {
			return fmt.Errorf("make the %s again: %w", what, err)
		}
		b.log.Warn().Msg(what + " is made again: every step is delivered as for the first time")
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the %s: %w", what, err)
	}
	b.workersGone = time.Time{}
	if b.cfg.mode() == modeCluster && !b.server.JetStreamIsConsumerLeader("$G", bus.StreamWork, bus.ConsumerWorkers) {
		return b.takeLead(ctx, bus.WorkersStepDown())
	}
	actual := consumer.CachedInfo().Config
	if actual.AckWait != b.leaseSeen {
		b.leaseSeen, b.leaseSince = actual.AckWait, time.Now()
	}
	wanted, changes := layout.AdjustWorkers(actual)
	if len(changes) == 0 || wanted.AckWait < actual.AckWait && time.Since(b.leaseSince) < leaseRest {
		return nil
	}
	if _, err := b.js.UpdateConsumer(ctx, bus.StreamWork, wanted); err != nil {
		return fmt.Errorf("change %s of the %s: %w", strings.Join(changes, ", "), what, err)
	}
	b.log.Info().Strs("changed", changes).Dur("lease", wanted.AckWait).Msg(what + " brought to what is wanted")
	return nil
}

// retire removes the stream that older programs made for delayed work, once no Booster would make it again. Messages in it are somebody
// else's.
func (b *Broker) retire(ctx context.Context, v *view) (left string, err error) {
	s, there := v.streams[bus.FormerStream]
	if !there || !slices.Equal(s.config.Subjects, []string{"schedule.>"}) || snapshot.Unfinished(s.config) {
		return "", nil
	}
	if s.messages > 0 {
		return fmt.Sprintf("stream %s holds %d messages, and nothing here uses it any more: remove it with `nats stream rm %s`, or give it "+
			"subjects of its own",
			bus.FormerStream, s.messages, bus.FormerStream), nil
	}
	if b.older {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := b.js.DeleteStream(ctx, bus.FormerStream); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return "", fmt.Errorf("remove stream %s: %w", bus.FormerStream, err)
	}
	b.log.Info().Str("stream", bus.FormerStream).Msg("empty stream of an older program removed: nobody uses it")
	return "", nil
}

// another tells whether a Booster runs another program than this one.
func another(n bus.Node) bool { return n.Version != buildinfo.Version() }
