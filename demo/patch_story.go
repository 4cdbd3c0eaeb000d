package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/freeport"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest/fleet"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

const (
	patchServers = 5
	patchTimeout = 6 * time.Minute // for everything together; it takes a quarter of that
	handed       = 2               // index of the server on which files are changed
	freshSteps   = 100             // that the new server does before the end
	badVersion   = "1.1.4.2"
	flowFile     = "omflow/production/demo/1/main.py"
)

// patchHaste is what only this story wants: nobody watches it for a minute to see that a server does not become healthy.
var patchHaste = []string{"AGENT_WATCH_QUIET=1s", "AGENT_HEALTH_TIMEOUT=6s"}

// What became of the change that does no good, on a server.
const (
	outcomeBad       = "applied, taken back"
	outcomeOld       = "old version back"
	outcomeUntouched = "untouched"
)

// playPatches shows what becomes of files that are changed on one server. It returns the table of the end, and an error if a count is off.
func playPatches(ctx context.Context, st *stage, _ options) (shown string, err error) {
	st.out.text(fmt.Sprintf("One Booster, %d OMFLOW Servers, on %s. Tickets are filed at all of them, from the beginning to the end.\n\n",
		patchServers, st.db.Engine.Name))
	s := &patchStory{stage: st, firsts: map[string]first{}, second: map[string]string{}}
	r, err := s.tell(ctx)
	if err != nil {
		return "", err
	}
	return r.table(st.in), r.check()
}

// patchStory is what is changed, and what was seen of it so far.
type patchStory struct {
	*stage
	feed  *fleet.Feed
	watch *fleet.Outages

	firsts map[string]first  // by server
	second map[string]string // outcome of the second change, by server
}

// first is when a server had the first change, and for how long it was away for it.
type first struct{ had, away time.Duration }

func (s *patchStory) hand() *server { return s.in.servers[handed] }

func (s *patchStory) tell(ctx context.Context) (*patchResult, error) {
	ctx, cancel := context.WithTimeout(ctx, patchTimeout)
	defer cancel()
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	if _, err := s.sameFiles(ctx, ""); err != nil { // every agent has seen what its home was like
		return nil, err
	}
	began := time.Now()
	people := &http.Client{Timeout: feedAnswer}
	defer people.CloseIdleConnections()
	s.feed = steadyFeed(ctx, people, s.in, s.db)
	defer s.feed.Stop()
	watcher := &http.Client{Timeout: lookLimit}
	defer watcher.CloseIdleConnections()
	s.watch = fleet.WatchOutages(ctx, watcher, s.in.webs())
	defer s.watch.Stop()
	s.out.event("filing tickets at all servers; each is asked every few milliseconds whether it serves")

	for _, act := range []func(context.Context) error{s.spread, s.fail, s.welcome} {
		if err := act(ctx); err != nil {
			return nil, err
		}
	}
	s.watch.Stop()
	s.feed.Stop()
	s.out.event("no more tickets are filed")
	if err := s.drained(ctx); err != nil {
		return nil, err
	}
	s.out.event("the last ticket is closed")
	return s.count(ctx, time.Since(began))
}

// spread changes files by hand, with which all is well.
func (s *patchStory) spread(ctx context.Context) error {
	began := time.Now()
	a, err := s.change(ctx, newVersion, map[string]string{flowFile: "# a flow, as it was deployed\n"})
	if err != nil {
		return err
	}
	return s.through(ctx, a.ID, []string{patch.StateApplied}, func(r patch.Report) {
		f := first{had: r.Finished.Sub(began), away: s.watch.Since(r.Node, began)}
		s.firsts[r.Node] = f
		s.out.event("%s has it %s after the change; it was away for %s", r.Node, seconds(f.had), seconds(f.away))
	})
}

// fail changes files by hand with which the other servers do not become healthy, and takes that back.
func (s *patchStory) fail(ctx context.Context) error {
	before, err := s.sameFiles(ctx, "")
	if err != nil {
		return err
	}
	began := time.Now()
	var others []string
	for _, server := range s.in.servers {
		if server != s.hand() {
			others = append(others, server.name)
		}
	}
	a, err := s.change(ctx, badVersion, map[string]string{
		flowFile:                 "# a flow, with a mistake\n",
		omflowtest.UnhealthyFile: strings.Join(others, "\n") + "\n",
	})
	if err != nil {
		return err
	}
	if err := s.halted(ctx, a.ID); err != nil {
		return err
	}
	if err := s.judge(ctx, a.ID, began); err != nil {
		return err
	}

	answer, err := s.in.command(ctx, s.in.servers[0], "patch", "rollback", a.ID, "--note", "servers do not become healthy with it", "--json")
	if err != nil {
		return err
	}
	var revert struct {
		By   string `json:"undone_by"`
		From string `json:"from"`
	}
	if err := json.Unmarshal(answer, &revert); err != nil {
		return fmt.Errorf("omflow-booster patch rollback: %w: %s", err, answer)
	}
	s.out.event("omflow-booster patch rollback %s: %s takes it back", a.ID, revert.By)
	if err := s.through(ctx, revert.By, []string{patch.StateApplied, patch.StateSkipped}, func(r patch.Report) {
		if r.State == patch.StateSkipped {
			s.out.event("%s passes that over: it never had the patch", r.Node)
			return
		}
		s.out.event("%s is through with that: %s → %s", r.Node, r.From, r.To)
	}); err != nil {
		return err
	}
	if _, err := s.sameFiles(ctx, before); err != nil {
		return err
	}
	s.out.event("omflow-booster nodes drift: the files of all servers, %s included, are as before it", s.hand().name)
	return nil
}

// welcome starts a host with nothing but an agent.
func (s *patchStory) welcome(ctx context.Context) error {
	files, err := s.sameFiles(ctx, "")
	if err != nil {
		return err
	}
	port, err := freeport.Take(ctx)
	if err != nil {
		return err
	}
	fresh, err := s.in.addHost("server-"+strconv.Itoa(len(s.in.servers)+1), port)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := s.in.startAgent(fresh); err != nil {
		return err
	}
	s.out.event("%s is new: an agent and an empty home", fresh.name)
	if err := s.until(ctx, fresh.name+" to be a server", func(ctx context.Context) (bool, error) {
		_, err := version(ctx, fresh)
		return err == nil, err
	}); err != nil {
		return err
	}
	s.out.event("%s serves %s later, with files of another server", fresh.name, seconds(time.Since(began)))
	if err := s.until(ctx, fresh.name+" to do its part", func(ctx context.Context) (bool, error) {
		shares, err := omflowtest.CountShares(ctx, s.db.DB)
		return slices.ContainsFunc(shares, func(share omflowtest.Share) bool {
			return share.Server == fresh.name &&
				share.Effects >= freshSteps
		}), err
	}); err != nil {
		return err
	}
	s.out.event("%s has done %d steps", fresh.name, freshSteps)
	_, err = s.sameFiles(ctx, files)
	return err
}

// change is somebody who edits files on a server, and does nothing else. It returns what the agent there makes of that.
func (s *patchStory) change(ctx context.Context, to string, files map[string]string) (a patch.Announcement, err error) {
	known, err := patch.List(ctx, s.client.JS)
	if err != nil {
		return a, err
	}
	began := time.Now()
	files[omflowtest.VersionFile] = "version=" + to + "\n"
	if err := writeFiles(s.hand().home, files); err != nil {
		return a, err
	}
	s.out.event("%d files in the home of %s are changed by hand, to version %s", len(files), s.hand().name, to)
	err = s.until(ctx, "the agent to publish what was changed", func(ctx context.Context) (bool, error) {
		list, err := patch.List(ctx, s.client.JS)
		if err != nil || len(list) == len(known) {
			return false, err
		}
		a = list[len(known)]
		return true, nil
	})
	switch {
	case err != nil:
		return a, err
	case a.Author != s.hand().name || a.Files != len(files):
		return a, fmt.Errorf("patch %s of %s has %d files; %s was changed in %d", a.ID, a.Author, a.Files, s.hand().name, len(files))
	}
	s.out.event("its agent has noticed, and publishes them %s later: patch %s", seconds(time.Since(began)), a.ID)
	return a, nil
}

// through waits until a patch has come to a good end on every server, and tells of each.
func (s *patchStory) through(ctx context.Context, id string, good []string, tell func(patch.Report)) error {
	told := map[string]bool{}
	var bad error
	err := s.until(ctx, "patch "+id+" on every server", func(ctx context.Context) (bool, error) {
		reports, err := s.reports(ctx, id)
		for _, r := range reports {
			switch {
			case told[r.Node]:
			case slices.Contains(good, r.State):
				told[r.Node] = true
				tell(r)
			case r.State != patch.StateRetrying:
				bad = fmt.Errorf("patch %s is %s on %s: %s", id, r.State, r.Node, r.Error)
			}
		}
		return bad != nil || len(told) == len(s.in.servers), err
	})
	return errors.Join(err, bad)
}

// halted waits until the rollout has.
func (s *patchStory) halted(ctx context.Context, id string) error {
	told := map[string]bool{}
	var p rollout.Plan
	if err := s.until(ctx, "the rollout of "+id+" to halt", func(ctx context.Context) (bool, error) {
		reports, err := s.reports(ctx, id)
		if err != nil {
			return false, err
		}
		for _, r := range reports {
			if !told[r.Node] {
				told[r.Node] = true
				s.out.event("%s", strings.TrimSuffix(r.Node+": "+r.State+": "+r.Error, ": "))
			}
		}
		p, _, err = rollout.Read(ctx, s.client.JS, id)
		return p.State == rollout.StateHalted, err
	}); err != nil {
		return err
	}
	s.out.event("the rollout has halted")
	return nil
}

// judge sees what a patch that has halted left behind on each server.
func (s *patchStory) judge(ctx context.Context, id string, began time.Time) error {
	reports, err := s.reports(ctx, id)
	if err != nil {
		return err
	}
	untouched := 0
	for _, server := range s.in.servers {
		v, err := version(ctx, server)
		if err != nil {
			return fmt.Errorf("%s does not serve: %w", server.name, err)
		}
		state := ""
		if i := slices.IndexFunc(reports, func(r patch.Report) bool { return r.Node == server.name }); i >= 0 {
			state = reports[i].State
		}
		away := s.watch.Since(server.name, began)
		switch {
		case state == patch.StateApplied && v == badVersion:
			s.second[server.name] = outcomeBad
		case state == patch.StateRolledBack && v == newVersion:
			s.second[server.name] = outcomeOld
			s.out.event("%s has version %s back; it was away for %s", server.name, v, seconds(away))
		case state == "" && v == newVersion && away == 0:
			s.second[server.name] = outcomeUntouched
			untouched++
		default:
			s.second[server.name] = fmt.Sprintf("%s with version %s, away for %s", state, v, seconds(away))
		}
	}
	s.out.event("%d servers have not noticed anything", untouched)
	return nil
}

func (s *patchStory) reports(ctx context.Context, id string) ([]patch.Report, error) {
	all, err := patch.Reports(ctx, s.client.JS)
	return all[id], err
}

// sameFiles waits until nothing is changed by hand anywhere and the files of all servers are the same, and those of want if
// that is not empty.
func (s *patchStory) sameFiles(ctx context.Context, want string) (digest string, err error) {
	err = s.until(ctx, "all servers to have the same files", func(context.Context) (bool, error) {
		answer, err := s.in.command(ctx, s.in.servers[0], "nodes", "drift", "--json") // takes longer than a look
		if err != nil {
			return false, err
		}
		var told struct {
			Nodes []bus.Drift `json:"nodes"`
		}
		if err := json.Unmarshal(answer, &told); err != nil {
			return false, err
		}
		if len(told.Nodes) < len(s.in.servers) {
			return false, fmt.Errorf("%d of %d agents answer", len(told.Nodes), len(s.in.servers))
		}
		digest = told.Nodes[0].Baseline
		for _, d := range told.Nodes {
			if d.Baseline == "" || d.Baseline != digest || want != "" && d.Baseline != want {
				return false, fmt.Errorf("%s has files %q, %s %q", d.Node, d.Baseline, told.Nodes[0].Node, digest)
			}
		}
		return true, nil
	})
	return digest, err
}
