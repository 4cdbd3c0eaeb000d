//go:build linux

package test

import (
	"strconv"
	"testing"
	"time"
)

// frozenFor is longer than any election, so that the frozen Booster wakes up in a cluster that went on without it.
const frozenFor = 30 * time.Second

// startPairSite starts two Boosters and this many OMFLOW Servers below agents, the first with the witness, and returns when
// either Booster can go.
func startPairSite(t *testing.T, servers int, vars env) (*site, *pair) {
	t.Helper()
	s := emptySite(t, vars)
	p := startPair(t, s.vars)
	s.booster = p.boosters[0]
	for i := range servers {
		var witness env
		if i == 0 {
			witness = witnessEnv(t)
		}
		s.servers = append(s.servers, s.startUnderAgent("server-"+strconv.Itoa(i+1), "1.1.4.0", witness))
	}
	p.healed(time.Now())
	return s, p
}

// Everything that can happen to one member of three, and at last to all of them, one after the other in one cluster.
func TestBoostersTakeOverFromEachOther(t *testing.T) {
	t.Parallel()
	// given two Boosters, a witness, and two servers at which people file tickets
	s, p := startPairSite(t, 2, env{"BOOSTER_LEASE": "3s"})
	s.fileTickets()
	stopWriting := p.write()
	s.afterSteps(10)

	// when the active is stopped for an update, and comes back
	active, standby := p.roles()
	p.suffer("planned stop of the active", plannedGap, active.stop, p.takenOver(standby))
	p.suffer("its return", plannedGap, active.again, p.healed)
	p.checkLeaders()

	// when the active dies, and comes back
	active, standby = p.roles()
	p.suffer("kill -9 of the active", killedGap, active.kill, p.takenOver(standby))
	s.afterSteps(10)
	p.suffer("its return", plannedGap, active.again, p.healed)
	p.checkLeaders()

	// when the standby dies, and comes back
	_, standby = p.roles()
	p.suffer("kill -9 of the standby", plannedGap, standby.kill, func(time.Time) { s.afterSteps(10) })
	p.suffer("its return", plannedGap, standby.again, p.healed)

	// when the witness dies, and is started again by its agent
	p.suffer("kill -9 of the witness", plannedGap, p.killWitness, p.healed)

	// when the active stands still until after the takeover, and goes on
	active, standby = p.roles()
	began := time.Now()
	p.suffer("the active stands still", frozenGap, active.freeze, p.takenOver(standby))
	for time.Since(began) < frozenFor {
		s.afterSteps(5)
	}
	p.suffer("it wakes up", plannedGap, active.thaw, p.healed)
	p.checkLeaders()

	// when all three die at once, one Booster and the witness go on without the other Booster
	active, standby = p.roles()
	p.suffer("kill -9 of all three", restartGap, func() {
		p.killWitness()
		active.kill()
		standby.kill()
		standby.again()
	}, p.takenOver(standby))
	p.suffer("the return of the other one", plannedGap, active.again, p.healed)
	p.checkLeaders()

	// then nothing is lost and nothing happened twice
	stopWriting()
	if _, err := p.probe.Accepted(); err != nil {
		t.Error(err)
	}
	s.afterSteps(10)
	s.finish()
}
