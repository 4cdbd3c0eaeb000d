package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

const (
	createTimeout = time.Minute            // before a missing stream is made anew
	foundingPause = 500 * time.Millisecond // for the answers to bus.SubjectFounding
)

// founding makes the streams of a new cluster. It asks the other Booster first, because two queues are never mixed.
type founding struct {
	cluster *cluster
	room    budget
	growing func() bool     // this Booster brings a queue of its own
	ready   <-chan struct{} // closed once every stream has been there since this Booster was started

	missingSince time.Time // since when a stream is missing; zero: none is
}

func newFounding(c *cluster, room budget, growing func() bool, ready <-chan struct{}) *founding {
	return &founding{cluster: c, room: room, growing: growing, ready: ready}
}

// served tells whether every stream has been there since this Booster was started.
func (f *founding) served() bool {
	select {
	case <-f.ready:
		return true
	default:
		return false
	}
}

// complete notes that no stream is missing.
func (f *founding) complete() { f.missingSince = time.Time{} }

// createStreams makes the streams of a new cluster, or one that is missing for long. The leader of the meta group does it, so that it
// happens once. A stream that is missing for a moment is left alone: `omflow-booster restore` replaces streams one after the
// other.
func (f *founding) createStreams(ctx context.Context, v *view) error {
	if f.missingSince.IsZero() {
		f.missingSince = time.Now()
	}
	if v.metaLeader != f.cluster.name || (f.served() && time.Since(f.missingSince) < createTimeout) {
		return nil
	}
	if err := f.othersAgree(ctx, v); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	f.cluster.log.Info().Int("replicas", replicas(v)).Msg("making the streams")
	return bus.Ensure(ctx, f.cluster.node.js, f.room.layout(replicas(v)))
}

// othersAgree waits until the other Booster has said what it brings along: a leader that makes empty streams in the meantime would be in
// the way of those that are restored.
func (f *founding) othersAgree(ctx context.Context, v *view) error {
	inbox := f.cluster.node.nc.NewInbox()
	sub, err := f.cluster.node.nc.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := f.cluster.node.nc.PublishRequest(bus.SubjectFounding, inbox, nil); err != nil {
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
		if name == f.cluster.name {
			continue
		}
		others++
		switch {
		case growing && f.growing():
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

// answer tells the other Booster whether this one has a queue to bring along.
func (f *founding) answer() (stop func(), err error) {
	sub, err := f.cluster.node.nc.Subscribe(bus.SubjectFounding, func(msg *nats.Msg) {
		reply := nats.NewMsg(msg.Reply)
		reply.Header.Set("Booster", f.cluster.name)
		if f.growing() {
			reply.Header.Set("Growing", "true")
		}
		_ = f.cluster.node.nc.PublishMsg(reply) // unanswered, the other one asks again
	})
	if err != nil {
		return nil, fmt.Errorf("answer the other Booster: %w", err)
	}
	return func() { _ = sub.Unsubscribe() }, nil
}
