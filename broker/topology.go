package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

const controlEvery = time.Second

// controller keeps the cluster in shape. It runs in every Booster; the one that leads decides.
type controller struct {
	cluster  *cluster
	founding *founding
	growth   *growth
	keeper   *keeper
	witness  *appointer

	placing sync.Mutex           // one decision on the cluster at a time
	view    atomic.Pointer[view] // what it saw last; nil before the first look
}

func newController(c *cluster, f *founding, g *growth, k *keeper, w *appointer) *controller {
	return &controller{cluster: c, founding: f, growth: g, keeper: k, witness: w}
}

// run keeps the cluster in shape until ctx ends. What is wrong is looked at anew each second, so a decision that fails, or that the cluster
// has overtaken, is simply made again.
func (t *controller) run(ctx context.Context) {
	var last string
	for ctx.Err() == nil {
		t.witness.hosts.names.resolve(ctx)
		t.placing.Lock()
		err := t.control(ctx)
		t.placing.Unlock()
		switch {
		case err == nil:
			last = "" // the same thing later is news
		case ctx.Err() == nil && err.Error() != last:
			last = err.Error()
			t.cluster.log.Warn().Err(err).Msg("cluster not in shape yet")
		}
		bus.Sleep(ctx, controlEvery)
	}
}

func (t *controller) control(ctx context.Context) error {
	v, err := t.cluster.look(ctx)
	if err == nil && !t.growth.open() { // a growth may have to mend CONTROL first
		err = t.cluster.readGrant(ctx, v)
	}
	t.view.Store(v)
	if err != nil || !t.cluster.decides(v) {
		t.witness.wait() // a Booster that becomes active, or has a majority again, has not waited for the witness yet
		t.keeper.forget()
	}
	if err != nil {
		return err
	}
	if err := t.witness.follow(v); err != nil {
		return err
	}
	if t.growth.open() {
		return t.growth.finish(ctx, v)
	}
	if len(bus.MissingStreams(v.names)) > 0 {
		return t.founding.createStreams(ctx, v)
	}
	t.founding.complete()
	if _, answered := v.streams[bus.StreamWork]; !answered {
		return fmt.Errorf("nobody leads %s yet", bus.StreamWork)
	}
	if err := t.placeLeaders(ctx, v); err != nil {
		return err
	}
	if !t.cluster.decides(v) {
		return nil
	}
	if err := t.witness.dismiss(ctx, v); err != nil {
		return err
	}
	if err := t.setReplicas(ctx, v); err != nil {
		return err
	}
	return errors.Join(t.witness.appoint(ctx, v), t.keeper.keep(ctx, v))
}

// placeLeaders brings every leadership to one Booster: off the witness, which only votes and stores, and to where WORK is led, so that one
// Booster can go without the other noticing. Only a member that has everything may lead.
func (t *controller) placeLeaders(ctx context.Context, v *view) error {
	work := v.streams[bus.StreamWork]
	if isWitness(work.leader) {
		if !work.isCurrent(t.cluster.name) {
			return fmt.Errorf("%s leads %s, and this Booster has not caught up", work.leader, bus.StreamWork)
		}
		return t.cluster.takeLead(ctx, bus.StreamStepDown(bus.StreamWork))
	}
	if !t.cluster.leads() {
		return nil
	}
	if v.metaLeader != t.cluster.name {
		if err := t.cluster.takeLead(ctx, bus.MetaStepDown); err != nil {
			return err
		}
	}
	for name, s := range v.streams {
		if s.leader != t.cluster.name && s.leader != "" && s.isCurrent(t.cluster.name) {
			if err := t.cluster.takeLead(ctx, bus.StreamStepDown(name)); err != nil {
				return err
			}
		}
	}
	return nil // for the workers' consumer see keepWorkers
}

// setReplicas gives every stream as many replicas as there are members, one stream at a time and only while everybody is there.
func (t *controller) setReplicas(ctx context.Context, v *view) error {
	want := replicas(v)
	online := 0
	for _, p := range v.peers {
		if p.online {
			online++
		}
	}
	for name, s := range v.streams {
		if s.config.Replicas == want || (s.config.Replicas < want && online < want) {
			continue
		}
		cfg := s.config
		cfg.Replicas = want
		call, cancel := context.WithTimeout(ctx, 2*callTimeout)
		_, err := t.cluster.node.js.UpdateStream(call, cfg)
		cancel()
		if err != nil {
			return fmt.Errorf("bring %s from %d to %d replicas: %w", name, s.config.Replicas, want, err)
		}
		t.cluster.log.Info().Str("stream", name).Int("from", s.config.Replicas).Int("replicas", want).Msg("replicas changed")
	}
	return nil
}
