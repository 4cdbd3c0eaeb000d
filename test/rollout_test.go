//go:build linux

package test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest/fleet"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

const (
	fleetSize      = 5
	rolloutTimeout = 5 * time.Minute // five servers, one after the other, under load
)

// startFleet starts servers under agents at which people file tickets. Their boosters are up.
func (s *site) startFleet(vars env) {
	s.t.Helper()
	s.serversFail = true // while they are patched
	for i := range fleetSize {
		s.servers = append(s.servers, s.startUnderAgent(fmt.Sprintf("server-%d", i+1), oldVersion, vars))
	}
	s.fileTickets()
	s.afterSteps(20)
}

// publish publishes files as a patch, typed on the host of a server. It returns the patch's id.
func (s *site) publish(files map[string]string, options ...string) string {
	s.t.Helper()
	source := dir(s.t)
	writeFiles(s.t, source, files)
	return query[struct{ ID string }](s.t, s.booster, append([]string{"patch", "publish", source}, options...)...).ID
}

func versionFiles(version string) map[string]string {
	return map[string]string{omflowtest.VersionFile: "version=" + version + "\n", "omflow/app.py": "# " + version + "\n"}
}

// watchOutages sees which servers are without service when.
func (s *site) watchOutages() *fleet.Outages {
	o := fleet.WatchOutages(context.Background(), client, s.webs())
	s.t.Cleanup(o.Stop)
	return o
}

// oneAway ends the watch. No server was away more than once, and never two at the same time.
func oneAway(t testing.TB, o *fleet.Outages) {
	t.Helper()
	o.Stop()
	away := o.Away()
	for name, spans := range away {
		if len(spans) > 1 {
			t.Errorf("%s was away %d times", name, len(spans))
		}
		for other, others := range away {
			if both := fleet.Overlap(spans, others, time.Time{}); name < other && both > 0 {
				t.Errorf("%s and %s were away at the same time, for %s", name, other, both)
			}
		}
	}
}

// rolledOut waits until a patch is applied on every server.
func (s *site) rolledOut(id string) {
	s.t.Helper()
	testkit.Await(s.t, rolloutTimeout, "patch "+id+" on every server", func(context.Context) error {
		states, _, err := s.show(id)
		if err != nil {
			return err
		}
		if !slices.Equal(slices.Compact(slices.Sorted(maps.Values(states))), []string{"applied"}) {
			return fmt.Errorf("it is %v", states)
		}
		return nil
	})
}

// rolloutState is how a rollout stands, and why.
type rolloutState struct{ State, Reason string }

// show is what became of a patch, by server, and how its rollout stands. A Booster that is taking over does not answer.
func (s *site) show(id string) (states map[string]string, r rolloutState, err error) {
	s.t.Helper()
	a := ask(s.t, s.booster.env(), "", "patch", "show", id, "--json")
	if a.code != 0 {
		return nil, r, fmt.Errorf("patch show: code %d: %s", a.code, a.stderr)
	}
	shown := struct {
		Nodes   []struct{ Node, State string } `json:"nodes"`
		Rollout *rolloutState                  `json:"rollout"`
	}{Rollout: &r}
	if err := json.Unmarshal([]byte(a.stdout), &shown); err != nil {
		return nil, r, err
	}
	states = map[string]string{}
	for _, n := range shown.Nodes {
		states[n.Node] = n.State
	}
	return states, r, nil
}

func TestPatchGoesFromServerToServer(t *testing.T) {
	t.Parallel()
	// given five servers under agents, at which people file tickets
	s := prepareSite(t, env{"BOOSTER_LEASE": "5s"})
	s.startFleet(nil)
	watch := s.watchOutages()
	// when a patch is published
	id := s.publish(versionFiles(newVersion), "--from", oldVersion)
	s.rolledOut(id)
	// then every server runs it, each was away once, and never two at the same time
	oneAway(t, watch)
	for _, srv := range s.servers {
		testkit.Await(t, timeout, srv.name+" to run "+newVersion, srv.runs(newVersion))
	}
	// then no step is lost, failed or done twice
	s.afterSteps(20)
	s.finish()
}

func TestPatchThatFailsHalts(t *testing.T) {
	t.Parallel()
	// given five servers under agents, at which people file tickets
	s := prepareSite(t, env{"BOOSTER_LEASE": "5s"})
	s.startFleet(env{"AGENT_HEALTH_TIMEOUT": "15s"})
	// when a patch is published with which only the first server to get it becomes healthy
	files := versionFiles(newVersion)
	files[omflowtest.UnhealthyFile] = "server-1 server-2 server-3 server-5\n"
	id := s.publish(files, "--canary", "server-4")
	testkit.Await(t, rolloutTimeout, "the rollout to halt", func(context.Context) error {
		states, r, err := s.show(id)
		if err == nil && r.State != "halted" {
			err = fmt.Errorf("it is %q: %v", r.State, states)
		}
		return err
	})
	// then the second server is back on the old version, and the others were not touched
	states, r, err := s.show(id)
	if err != nil || !strings.HasPrefix(r.Reason, "rolled back on server-") || strings.Contains(r.Reason, "server-4") {
		t.Errorf("it halted because %s (%v)", r.Reason, err)
	}
	if got, want := slices.Sorted(maps.Values(states)), []string{"applied", "rolled back", "waiting", "waiting", "waiting"}; !slices.Equal(
		got, want) {
		t.Errorf("servers are %v, want %v", got, want)
	}
	for _, srv := range s.servers {
		want := oldVersion
		if srv.name == "server-4" {
			want = newVersion
		}
		testkit.Await(t, timeout, srv.name+" to run "+want, srv.runs(want))
		if v := homeOf(t, srv)[omflowtest.VersionFile]; v != "version="+want+"\n" {
			t.Errorf("%s has %q, want %s", srv.name, v, want)
		}
	}
	// then nothing is lost and nothing happened twice
	s.afterSteps(20)
	s.finish()
}

// Two Boosters; the active one is killed while servers wait for their turn.
func TestRolloutGoesOnAfterATakeover(t *testing.T) {
	t.Parallel()
	s := emptySite(t, env{"BOOSTER_LEASE": "5s"})
	p := startPair(t, s.vars)
	s.booster = p.boosters[0]
	for i := range fleetSize {
		witness := env{"AGENT_WITNESS": "off"}
		if i == 0 {
			witness = witnessEnv(t)
		}
		s.servers = append(s.servers, s.startUnderAgent(fmt.Sprintf("server-%d", i+1), oldVersion, witness))
	}
	s.serversFail = true
	p.healed(time.Now())
	s.fileTickets()
	s.afterSteps(10)
	watch := s.watchOutages()
	id := s.publish(versionFiles(newVersion))
	applied := func(want int) {
		t.Helper()
		testkit.Await(t, rolloutTimeout, fmt.Sprintf("%d servers to have it", want), func(context.Context) error {
			states, _, err := s.show(id)
			if err != nil {
				return err
			}
			n := 0
			for _, state := range states {
				if state == "applied" {
					n++
				}
			}
			if n < want {
				return fmt.Errorf("%d have it", n)
			}
			return nil
		})
	}
	// when the active one is killed in the middle
	applied(2)
	active, standby := p.roles()
	s.booster = standby
	active.kill()
	// then the rollout goes on: nobody is left out, and nobody is patched twice
	s.rolledOut(id)
	oneAway(t, watch)
	for _, srv := range s.servers {
		testkit.Await(t, timeout, srv.name+" to run "+newVersion, srv.runs(newVersion))
	}
	active.restart()
	s.afterSteps(10)
	s.finish()
}
