//go:build linux

package test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// The host of the witness is lost for good. Nobody has to do anything.
func TestAnotherAgentBecomesWitness(t *testing.T) {
	t.Parallel()
	// given two Boosters and two agents, either of which may run the witness
	p := startPair(t, env{"BOOSTER_WITNESS_AFTER": "500ms"}) // less than a witness needs to start: none may be replaced before it could come
	agents := map[string]*agent{}
	for _, name := range []string{"agent-1", "agent-2"} {
		agents[name] = startAgent(t, name, p.boosters[0], dir(t), merge(witnessEnv(t), env{"AGENT_WORKER": "off", "AGENT_RESTART_MIN": "100ms"}))
	}
	p.healed(time.Now())
	p.write()
	first, _ := p.witness()
	former := p.witnessMember()

	// when the one that runs it is gone
	p.suffer("the host of the witness dies", plannedGap, agents[first].killAll, func(time.Time) {
		p.await("another agent to be witness", func(ctx context.Context) error {
			now, _ := p.witness()
			if now == first {
				return errors.New("it is the first one still")
			}
			return p.spreadWithout(ctx, former)
		})
		p.healed(time.Now())
	})
	// then everything is stored three times again, and the new witness has a vote: the active may die
	active, standby := p.roles()
	p.suffer("kill -9 of the active", killedGap, active.kill, p.takenOver(standby))
	p.suffer("its return", plannedGap, active.again, p.healed)

	// and the first agent, should it come back, is none
	agents[first].restart()
	p.healed(time.Now())
	p.await("the former witness to be none", func(ctx context.Context) error {
		state, err := agents[first].state(ctx)
		if err == nil && state.WitnessState != "none" {
			err = fmt.Errorf("its witness is %s", state.WitnessState)
		}
		return err
	})
	p.await("three copies still", func(ctx context.Context) error { return p.spreadWithout(ctx, former) })
}

// witnessMember is the name of the witness in the cluster.
func (p *pair) witnessMember() (name string) {
	p.t.Helper()
	p.await("a witness among the members", func(ctx context.Context) error {
		infos, err := p.streams(ctx)
		if err != nil {
			return err
		}
		for _, info := range infos {
			for _, m := range info.Cluster.Replicas {
				if strings.HasPrefix(m.Name, bus.WitnessPrefix) {
					name = m.Name
					return nil
				}
			}
		}
		return errors.New("there is none")
	})
	return name
}

// spreadWithout returns nil when every stream has three copies, all of them current, and none of them where the former witness was.
func (p *pair) spreadWithout(ctx context.Context, former string) error {
	infos, err := p.streams(ctx)
	if err != nil {
		return err
	}
	if len(infos) != bus.Streams {
		return fmt.Errorf("%d streams", len(infos))
	}
	for _, info := range infos {
		var members []string
		for _, m := range info.Cluster.Replicas {
			members = append(members, m.Name)
			if !m.Current || m.Offline {
				return fmt.Errorf("%s of %s is not current", m.Name, info.Config.Name)
			}
		}
		if len(members) != 2 || slices.Contains(members, former) || info.Config.Replicas != 3 {
			return fmt.Errorf("%s is at %s and %v, with %d replicas wanted", info.Config.Name, info.Cluster.Leader, members, info.Config.Replicas)
		}
	}
	return nil
}
