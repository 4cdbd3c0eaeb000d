//go:build linux

package test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
)

const (
	fleet          = 5
	rolloutPatient = 5 * time.Minute // five servers, one after the other, under load
)

// startFleet starts servers under agents at which people file tickets. Their boosters are up.
func (s *site) startFleet(vars env) {
	s.t.Helper()
	s.serversFail = true // while they are patched
	for i := range fleet {
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

// outage watches how many servers are without service at the same time.
type outage struct {
	end  context.CancelFunc
	over sync.WaitGroup
	most int
	down map[string]int // times that each went away
}

// watchOutage asks every server every few milliseconds.
func (s *site) watchOutage() *outage {
	ctx, cancel := context.WithCancel(context.Background())
	o := &outage{end: cancel, down: map[string]int{}}
	s.t.Cleanup(o.stop)
	var mu sync.Mutex
	away := map[string]bool{}
	for _, srv := range s.servers {
		o.over.Go(func() {
			for ctx.Err() == nil {
				asked, cancelAsk := context.WithTimeout(ctx, 5*time.Second)
				err := srv.healthy(asked)
				cancelAsk()
				mu.Lock()
				if err != nil && ctx.Err() == nil && !away[srv.name] {
					o.down[srv.name]++
				}
				away[srv.name] = err != nil && ctx.Err() == nil
				n := 0
				for _, is := range away {
					if is {
						n++
					}
				}
				o.most = max(o.most, n)
				mu.Unlock()
				select {
				case <-ctx.Done():
				case <-time.After(20 * time.Millisecond):
				}
			}
		})
	}
	return o
}

func (o *outage) stop() {
	o.end()
	o.over.Wait()
}

// rolledOut waits until a patch is applied on every server.
func (s *site) rolledOut(id string) {
	s.t.Helper()
	eventually(s.t, rolloutPatient, "patch "+id+" on every server", func(context.Context) error {
		if states := s.outcomes(id); !slices.Equal(slices.Compact(slices.Sorted(maps.Values(states))), []string{"applied"}) {
			return fmt.Errorf("it is %v", states)
		}
		return nil
	})
}

// outcomes is what became of a patch, by server.
func (s *site) outcomes(id string) map[string]string {
	s.t.Helper()
	shown := query[struct {
		Nodes []struct{ Node, State string } `json:"nodes"`
	}](s.t, s.booster, "patch", "show", id)
	states := map[string]string{}
	for _, n := range shown.Nodes {
		states[n.Node] = n.State
	}
	return states
}

// rolloutOf is the state of a rollout and its reason.
func (s *site) rolloutOf(id string) (state, reason string) {
	s.t.Helper()
	shown := query[struct {
		Rollout *struct{ State, Reason string } `json:"rollout"`
	}](s.t, s.booster, "patch", "show", id)
	if shown.Rollout == nil {
		return "", ""
	}
	return shown.Rollout.State, shown.Rollout.Reason
}

func TestPatchGoesFromServerToServer(t *testing.T) {
	t.Parallel()
	// given five servers under agents, at which people file tickets
	s := prepareSite(t, env{"BOOSTER_LEASE": "5s"})
	s.startFleet(nil)
	watch := s.watchOutage()
	// when a patch is published
	id := s.publish(versionFiles(newVersion), "--from", oldVersion)
	s.rolledOut(id)
	watch.stop()
	// then every server runs it, each was away once, and never two at the same time
	for _, srv := range s.servers {
		eventually(t, patience, srv.name+" to run "+newVersion, srv.runs(newVersion))
		if watch.down[srv.name] > 1 {
			t.Errorf("%s was away %d times", srv.name, watch.down[srv.name])
		}
	}
	if watch.most > 1 {
		t.Errorf("%d servers were away at the same time", watch.most)
	}
	// then no step is lost, failed or done twice
	s.afterSteps(20)
	s.finish()
}

func TestPatchThatFailsHalts(t *testing.T) {
	t.Parallel()
	// given five servers under agents, at which people file tickets
	s := prepareSite(t, env{"BOOSTER_LEASE": "5s"})
	s.startFleet(env{"AGENT_HEALTH_TIMEOUT": "3s"})
	// when a patch is published with which only the first server to get it becomes healthy
	files := versionFiles(newVersion)
	files[omflowtest.UnhealthyFile] = "server-1 server-2 server-3 server-5\n"
	id := s.publish(files, "--canary", "server-4")
	eventually(t, rolloutPatient, "the rollout to halt", func(context.Context) error {
		if state, _ := s.rolloutOf(id); state != "halted" {
			return fmt.Errorf("it is %q: %v", state, s.outcomes(id))
		}
		return nil
	})
	// then the second server is back on the old version, and the others were not touched
	if _, reason := s.rolloutOf(id); !strings.HasPrefix(reason, "rolled back on server-") || strings.Contains(reason, "server-4") {
		t.Errorf("it halted because %s", reason)
	}
	states := slices.Sorted(maps.Values(s.outcomes(id)))
	if want := []string{"applied", "rolled back", "waiting", "waiting", "waiting"}; !slices.Equal(states, want) {
		t.Errorf("servers are %v, want %v", states, want)
	}
	for _, srv := range s.servers {
		want := oldVersion
		if srv.name == "server-4" {
			want = newVersion
		}
		eventually(t, patience, srv.name+" to run "+want, srv.runs(want))
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
	for i := range fleet {
		witness := "off"
		if i == 0 {
			witness = "on"
		}
		s.servers = append(s.servers, s.startUnderAgent(fmt.Sprintf("server-%d", i+1), oldVersion, env{"AGENT_WITNESS": witness}))
	}
	s.serversFail = true
	p.healed(time.Now())
	s.fileTickets()
	s.afterSteps(10)
	watch := s.watchOutage()
	id := s.publish(versionFiles(newVersion))
	applied := func(want int) {
		t.Helper()
		eventually(t, rolloutPatient, fmt.Sprintf("%d servers to have it", want), func(context.Context) error {
			n := 0
			for _, state := range s.outcomes(id) {
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
	watch.stop()
	for _, srv := range s.servers {
		eventually(t, patience, srv.name+" to run "+newVersion, srv.runs(newVersion))
		if watch.down[srv.name] > 1 {
			t.Errorf("%s was away %d times", srv.name, watch.down[srv.name])
		}
	}
	if watch.most > 1 {
		t.Errorf("%d servers were away at the same time", watch.most)
	}
	active.restart()
	s.afterSteps(10)
	s.finish()
}
