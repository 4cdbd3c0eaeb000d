package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/snapshot"
)

// leaseRest is how long a lease stays before it is made shorter, by half: each worker has looked at it by then
// (worker/queue.go), and runs no step by the one before.
const leaseRest = time.Minute

// keeper keeps streams and the workers' consumer as this program and its settings want them.
type keeper struct {
	cluster *cluster
	room    budget
	around  *surroundings
	notes   atomic.Pointer[[]string] // for the heartbeat: what an operator should know
	workers workers
}

// workers is what the keeper knows of the workers' consumer.
type workers struct {
	lease time.Duration
	since time.Time // when it saw this lease first
	gone  time.Time // since when there is no such consumer; zero: there is one
}

func newKeeper(c *cluster, room budget, around *surroundings) *keeper {
	return &keeper{cluster: c, room: room, around: around}
}

// forget forgets what the keeper knows of others, because this Booster does not lead.
func (k *keeper) forget() {
	k.around.forget()
	k.workers = workers{}
}

// runSingle compares the streams of a single Booster with what is wanted, until ctx ends.
func (k *keeper) runSingle(ctx context.Context) {
	var last string
	for bus.Sleep(ctx, watchEvery) {
		v := &view{streams: map[string]streamView{}}
		err := k.cluster.lookAtStreams(ctx, v)
		if err == nil {
			err = k.keep(ctx, v)
		}
		switch {
		case err == nil:
			last = ""
		case ctx.Err() == nil && err.Error() != last:
			last = err.Error()
			k.cluster.log.Warn().Err(err).Msg("streams are not as they should be")
		}
	}
}

// keep brings every stream and the workers' consumer from what it is to what this program and its settings want: a setting was changed, a
// release wants a stream otherwise, the disk of a member has less room, somebody removed the consumer. What the server refuses keeps
// nothing else from being done.
func (k *keeper) keep(ctx context.Context, v *view) error {
	if _, answered := v.streams[bus.StreamWork]; !answered {
		return nil
	}
	errs := []error{k.around.gather(ctx, v)} // what was known before still is
	total, notes := k.around.storeBytes(v)
	notes = append(notes, k.around.wrong...)
	layout := bus.Layout{StoreBytes: total, Lease: k.room.lease}
	for _, name := range slices.Sorted(maps.Keys(v.streams)) {
		if err := k.keepStream(ctx, layout, v.streams[name]); err != nil {
			errs = append(errs, err)
			notes = append(notes, err.Error())
		}
	}
	errs = append(errs, k.keepWorkers(ctx, layout, v))
	left, err := k.retire(ctx, v)
	errs = append(errs, err)
	if left != "" {
		notes = append(notes, left)
	}
	k.note(notes)
	return errors.Join(errs...)
}

// note has the heartbeat say what an operator should know, and the log what is new.
func (k *keeper) note(notes []string) {
	before := k.notes.Swap(&notes)
	for _, n := range notes {
		if before == nil || !slices.Contains(*before, n) {
			k.cluster.log.Warn().Msg(n)
		}
	}
}

func (k *keeper) keepStream(ctx context.Context, layout bus.Layout, s streamView) error {
	if snapshot.Unfinished(s.config) { // a change would carry the restore along
		return nil
	}
	wanted, changes := layout.Adjust(s.config, s.bytes)
	if len(changes) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*callTimeout)
	defer cancel()
	if _, err := k.cluster.node.js.UpdateStream(ctx, wanted); err != nil {
		return fmt.Errorf("change %s of stream %s: %w", strings.Join(changes, ", "), s.config.Name, err)
	}
	k.cluster.log.Info().Str("stream", s.config.Name).Strs("changed", changes).Int64("max_bytes", wanted.MaxBytes).
		Msg("stream brought to what is wanted")
	return nil
}

// keepWorkers does so for the consumer. One that is gone is made again after a lease: a new one knows of no step that is
// running, and gives each to a second worker at once. Without a consumer no lease is renewed, so by then nothing runs.
func (k *keeper) keepWorkers(ctx context.Context, layout bus.Layout, v *view) error {
	if snapshot.Unfinished(v.streams[bus.StreamWork].config) { // the restore brings it
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	what := fmt.Sprintf("consumer %s of %s", bus.ConsumerWorkers, bus.StreamWork)
	consumer, err := k.cluster.node.js.Consumer(ctx, bus.StreamWork, bus.ConsumerWorkers)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		if k.workers.gone.IsZero() {
			k.workers.gone = time.Now()
			k.cluster.log.Warn().Msg(what + " is gone; it is made again when no worker holds a lease of it any more")
		}
		if time.Since(k.workers.gone) < max(k.workers.lease, layout.Lease) {
			return nil
		}
		if _, err := k.cluster.node.js.CreateConsumer(ctx, bus.StreamWork, layout.Workers()); err != nil {
			return fmt.Errorf("make the %s again: %w", what, err)
		}
		k.cluster.log.Warn().Msg(what + " is made again: every step is delivered as for the first time")
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the %s: %w", what, err)
	}
	k.workers.gone = time.Time{}
	if !k.cluster.single && !k.cluster.node.server.JetStreamIsConsumerLeader("$G", bus.StreamWork, bus.ConsumerWorkers) {
		return k.cluster.takeLead(ctx, bus.WorkersStepDown())
	}
	actual := consumer.CachedInfo().Config
	if actual.AckWait != k.workers.lease {
		k.workers.lease, k.workers.since = actual.AckWait, time.Now()
	}
	wanted, changes := layout.AdjustWorkers(actual)
	if len(changes) == 0 || wanted.AckWait < actual.AckWait && time.Since(k.workers.since) < leaseRest {
		return nil
	}
	if _, err := k.cluster.node.js.UpdateConsumer(ctx, bus.StreamWork, wanted); err != nil {
		return fmt.Errorf("change %s of the %s: %w", strings.Join(changes, ", "), what, err)
	}
	k.cluster.log.Info().Strs("changed", changes).Dur("lease", wanted.AckWait).Msg(what + " brought to what is wanted")
	return nil
}

// retire removes the stream that older programs made for delayed work, once no Booster would make it again. Messages in it are somebody
// else's.
func (k *keeper) retire(ctx context.Context, v *view) (left string, err error) {
	s, there := v.streams[bus.FormerStream]
	if !there || !slices.Equal(s.config.Subjects, []string{"schedule.>"}) || snapshot.Unfinished(s.config) {
		return "", nil
	}
	if s.messages > 0 {
		return fmt.Sprintf("stream %s holds %d messages, and nothing here uses it any more: remove it with `nats stream rm %s`, or give it "+
			"subjects of its own",
			bus.FormerStream, s.messages, bus.FormerStream), nil
	}
	if k.around.older {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := k.cluster.node.js.DeleteStream(ctx, bus.FormerStream); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return "", fmt.Errorf("remove stream %s: %w", bus.FormerStream, err)
	}
	k.cluster.log.Info().Str("stream", bus.FormerStream).Msg("empty stream of an older program removed: nobody uses it")
	return "", nil
}
