//go:build linux

package test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// What WORK has acknowledged is there afterwards, without any table that it could be made from again: there is no worker, no
// reconciler and no row. Each replica is asked.
func TestAcknowledgedWritesAreKept(t *testing.T) {
	t.Parallel()
	// given two Boosters and a witness, and nobody who takes messages away
	p := startPair(t, nil)
	startAgent(t, "agent-1", p.boosters[0], dir(t), merge(witnessEnv(t), env{"AGENT_WORKER": "off", "AGENT_RESTART_MIN": "100ms"}))
	p.healed(time.Now())
	stop := p.write()

	// when the active dies while it writes
	active, standby := p.roles()
	p.suffer("kill -9 of the active", killedGap, active.kill, p.takenOver(standby))
	p.suffer("its return", plannedGap, active.again, p.healed)
	// when the active stands still while it writes, and wakes up
	active, standby = p.roles()
	p.suffer("the active stands still", frozenGap, active.freeze, p.takenOver(standby))
	p.suffer("it wakes up", plannedGap, active.thaw, p.healed)
	// when all three die while they write, and start again
	p.suffer("kill -9 of all three", restartGap, func() {
		p.killWitness()
		for _, b := range p.boosters {
			b.kill()
		}
		for _, b := range p.boosters {
			b.again()
		}
	}, p.healed)
	stop()

	// then both Boosters have every message that was acknowledged
	accepted, err := p.probe.Accepted()
	if err != nil {
		t.Fatal(err)
	}
	p.checkHolds(accepted)
	active, standby = p.roles()
	active.stop()
	p.takenOver(standby)
	p.checkHolds(accepted)
	t.Logf("%d acknowledged writes are there", len(accepted))
}

// checkHolds looks for messages in the copy of WORK that the active Booster has.
func (p *pair) checkHolds(accepted map[uint64]string) {
	p.t.Helper()
	var info *jetstream.StreamInfo
	p.await("the list of WORK", func(ctx context.Context) error {
		stream, err := p.bus.JS.Stream(ctx, bus.StreamWork)
		if err != nil {
			return err
		}
		if info, err = stream.Info(ctx, jetstream.WithSubjectFilter(">")); err != nil {
			return err
		}
		if info.Cluster.Leader == "" {
			return errors.New("nobody leads it")
		}
		return nil
	})
	missing := 0
	for _, subject := range accepted {
		if info.State.Subjects[subject] != 1 {
			missing++
		}
	}
	if missing > 0 || len(info.State.Subjects) < len(accepted) {
		p.t.Error(fmt.Errorf("%s lacks %d of %d acknowledged messages", info.Cluster.Leader, missing, len(accepted)))
	}
}
