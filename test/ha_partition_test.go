//go:build linux

package test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

const (
	// A cut after which nobody has to take over lasts longer than any election.
	cutFor = 12 * time.Second
	// How often clients write where workers have to take it away again.
	fewWrites = time.Second
)

// partition is a way in which the network falls apart.
type partition struct {
	name     string
	cut      func(n *network, active, standby string)
	takeover bool // the active has no majority any more, and the other one has
}

func partitions() []partition {
	return []partition{
		{"the active is alone", func(n *network, active, _ string) { n.isolate(active) }, true},
		{
			"the Boosters do not see each other, and both see the witness", func(n *network, active, standby string) { n.cut(active, standby) },
			false,
		},
		{"the standby does not hear the active", func(n *network, active, standby string) { n.drop(active, standby) }, false},
		{"nobody hears the active, and it hears everybody", func(n *network, active, _ string) {
			for host := range n.place {
				if host != active {
					n.drop(active, host)
				}
			}
		}, true},
	}
}

// startPair starts two Boosters, each on a host of its own that has its name.
func (n *network) startPair(t testing.TB, vars env) *pair {
	t.Helper()
	at := func(name, other string) env {
		return merge(vars, n.in(name), env{
			"BOOSTER_NAME": name, "BOOSTER_IP": n.ip(name), "BOOSTER_PORT": "5169", "HA_BOOSTER_IP": n.ip(other),
		})
	}
	return joinPair(t, launchPair(t, at("booster-1", "booster-2"), at("booster-2", "booster-1")))
}

// suffer cuts the network, waits for what has to come of it, and mends it. The other Booster takes over where it has a
// majority; at no moment do both say that they are active.
func (p partition) suffer(t *testing.T, n *network, boosters *pair, w *watch) {
	t.Helper()
	active, standby := boosters.roles()
	began := time.Now()
	p.cut(n, active.name, standby.name)
	if p.takeover {
		boosters.await(standby.name+" to take over", func(context.Context) error {
			return errors.Join(w.believes(standby), w.written(standby, began))
		})
		t.Logf("%s: %s took over after %.1f s", p.name, standby.name, time.Since(began).Seconds())
	}
	testkit.Await(t, 2*cutFor, "the cut to be longer than an election", func(context.Context) error {
		if lasts := time.Since(began); lasts < cutFor {
			return fmt.Errorf("it lasts %s", lasts)
		}
		return nil
	})
	cut := time.Since(began)
	n.mend()
	mended := time.Now()
	boosters.healed(mended)
	if both := w.overlap(began); both > 0 {
		t.Errorf("%s: both were active at the same time, for %s", p.name, both)
	}
	t.Logf("%s for %.1f s: no write was accepted for %.1f s, healed after %.1f s",
		p.name, cut.Seconds(), w.gap(began).Seconds(), time.Since(mended).Seconds())
}

// What WORK has acknowledged, to a client of either Booster, is there afterwards, in the same place in both copies.
func TestPartitionsLoseNoWrite(t *testing.T) {
	t.Parallel()
	// given two Boosters and a witness, each on a host of its own, clients that write to each, and nobody who takes messages away
	n := newNetwork(t, "booster-1", "booster-2", "server-1")
	p := n.startPair(t, nil)
	startAgent(t, "server-1", p.boosters[0], dir(t), merge(n.in("server-1"),
		env{"AGENT_WITNESS": "on", "AGENT_WORKER": "off", "AGENT_RESTART_MIN": "100ms"}))
	p.healed(time.Now())
	w := watchPair(t, p, 50*time.Millisecond)
	for _, c := range partitions() {
		c.suffer(t, n, p, w)
	}
	// then every write that was acknowledged is in both copies, where the acknowledgement said, and the copies are the same
	accepted, err := w.stop()
	if err != nil {
		t.Error(err)
	}
	copies := map[string]copyOfStream{}
	for _, b := range p.boosters {
		copies[b.name] = b.read(bus.StreamWork)
	}
	if err := compareCopies(accepted, copies); err != nil {
		t.Error(err)
	}
	t.Logf("%d acknowledged writes, and %d messages in each copy", len(accepted), len(copies["booster-1"]))
}

// Steps are run on two servers, each on a host of its own, while the Boosters' hosts are cut off in turn.
func TestPartitionsLoseNoStep(t *testing.T) {
	t.Parallel()
	// given two Boosters, a witness, and two servers at which people file tickets
	n := newNetwork(t, "booster-1", "booster-2", "server-1", "server-2")
	s := emptySite(t, env{"BOOSTER_LEASE": "3s"})
	p := n.startPair(t, s.vars)
	s.booster = p.boosters[0]
	for _, name := range []string{"server-1", "server-2"} {
		witness := "off"
		if name == "server-1" {
			witness = "on"
		}
		s.servers = append(s.servers, s.startUnderAgent(name, oldVersion, merge(n.in(name), env{
			"AGENT_WITNESS": witness, "OMFLOWTEST_LISTEN": n.ip(name) + ":8080", "DATABASE_URL": s.overSocket(),
		})))
	}
	p.healed(time.Now())
	w := watchPair(t, p, fewWrites) // the workers have to take these away, too
	s.fileTickets()
	s.afterSteps(10)
	for _, c := range partitions() {
		before := s.must(`SELECT count(*) FROM omflowtest_effect`)
		c.suffer(t, n, p, w)
		t.Logf("%s: %d steps had their effect meanwhile", c.name, s.must(`SELECT count(*) FROM omflowtest_effect`)-before)
		s.afterSteps(10)
	}
	// then nothing is lost and nothing happened twice
	if _, err := w.stop(); err != nil {
		t.Error(err)
	}
	s.finish()
}

// overSocket is the URL of the database over its Unix socket, which hosts reach whatever their network is.
func (s *site) overSocket() string {
	s.t.Helper()
	var dir string
	if err := s.db.GetContext(s.t.Context(), &dir, `SHOW unix_socket_directories`); err != nil {
		s.t.Fatal(err)
	}
	u, err := url.Parse(s.database)
	if err != nil {
		s.t.Fatal(err)
	}
	q := u.Query()
	q.Set("host", dir)
	q.Set("port", u.Port())
	u.Host, u.RawQuery = "", q.Encode()
	return u.String()
}
