//go:build linux

package test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

const deployedFlow = "omflow/production/form/1/main.py" // what OMFLOW writes when somebody deploys a flow

// published waits until so many patches were published, and returns the newest one.
func (s *site) published(want int) (id, author string) {
	s.t.Helper()
	testkit.Await(s.t, timeout, fmt.Sprintf("%d patches to be published", want), func(context.Context) error {
		list := query[struct {
			Patches []struct{ ID, Author string } `json:"patches"`
		}](s.t, s.booster, "patch", "ls").Patches
		if len(list) != want {
			return fmt.Errorf("there are %d", len(list))
		}
		id, author = list[want-1].ID, list[want-1].Author
		return nil
	})
	return id, author
}

func TestServerThatIsChangedByHandTakesTheOthersAlong(t *testing.T) {
	t.Parallel()
	// given five servers under agents, at which people file tickets
	s := prepareSite(t, env{"BOOSTER_LEASE": "5s"})
	s.startFleet(env{"AGENT_WATCH_QUIET": "1s"})
	watch := s.watchOutages()
	// when somebody updates one of them by hand, and deploys a flow on it
	third := s.servers[2]
	files := versionFiles(newVersion)
	files[deployedFlow] = "# deployed\n"
	writeFiles(t, third.home, files)
	// then its agent publishes that, every server runs it, each was away once, and never two at the same time
	id, author := s.published(1)
	if author != third.name {
		t.Errorf("published by %q, want %s", author, third.name)
	}
	s.rolledOut(id)
	oneAway(t, watch)
	for _, srv := range s.servers {
		testkit.Await(t, timeout, srv.name+" to run "+newVersion, srv.runs(newVersion))
		if home := homeOf(t, srv); !maps.Equal(home, files) {
			t.Errorf("%s has %v, want %v", srv.name, home, files)
		}
	}
	testkit.Await(t, timeout, "nothing to differ any more", func(context.Context) error {
		if a := ask(t, s.booster.env(), "", "nodes", "drift"); a.code != 0 {
			return fmt.Errorf("code %d: %s%s", a.code, a.stdout, a.stderr)
		}
		return nil
	})
	// then it can be reverted everywhere
	revert := query[struct {
		By string `json:"undone_by"`
	}](t, s.booster, "patch", "rollback", id, "--note", "of a scenario").By
	s.rolledOut(revert)
	for _, srv := range s.servers {
		testkit.Await(t, timeout, srv.name+" to run "+oldVersion, srv.runs(oldVersion))
		if _, err := os.Stat(filepath.Join(srv.home, deployedFlow)); err == nil {
			t.Errorf("%s still has %s", srv.name, deployedFlow)
		}
	}
	// then no step is lost, failed or done twice
	s.afterSteps(20)
	s.finish()
}

func TestNewHostBecomesAServer(t *testing.T) {
	t.Parallel()
	// given two servers under agents, at which people file tickets, and that have had a patch
	s := prepareSite(t, env{"BOOSTER_LEASE": "5s"})
	s.serversFail = true // while they are patched
	for i := range 2 {
		s.servers = append(s.servers, s.startUnderAgent(fmt.Sprintf("server-%d", i+1), oldVersion, nil))
	}
	s.fileTickets()
	s.appliedOn(s.publish(versionFiles(newVersion), "--from", oldVersion), "server-1", "server-2")
	// when an agent is started on a host on which nothing else is
	fresh := s.startUnderAgent("server-3", "", env{"AGENT_WATCH": "report", "AGENT_WATCH_QUIET": "1s"})
	s.servers = append(s.servers, fresh)
	// then it is a server of the same version, and does its share of the steps
	testkit.Await(t, timeout, fresh.name+" to run "+newVersion, fresh.runs(newVersion))
	if got, want := homeOf(t, fresh), versionFiles(newVersion); !maps.Equal(got, want) {
		t.Errorf("it has %v, want %v", got, want)
	}
	testkit.Await(t, timeout, fresh.name+" to execute steps", func(ctx context.Context) error {
		n := 0
		err := s.db.QueryRowContext(ctx, "SELECT count(*) FROM omflowtest_effect WHERE server = '"+fresh.name+"'").Scan(&n)
		if err == nil && n == 0 {
			err = fmt.Errorf("it has executed none")
		}
		return err
	})
	// then it takes patches like the others, and may be where one begins
	next, source, file := versionFiles("1.1.4.9"), dir(t), filepath.Join(dir(t), "next.tar.zst")
	writeFiles(t, source, next)
	succeed(t, s.booster.env(), "patch", "build", source, file, "--from", newVersion)
	if code, out := command(t, s.booster, "patch", "apply", file); code != 1 || !strings.Contains(out, "several agents") {
		t.Errorf("patch apply where three agents are: code %d: %s", code, out)
	}
	out := succeed(t, s.booster.env(), "patch", "apply", file, "--node", "server-3")
	if !strings.Contains(out, "server-3 is the first") || !strings.Contains(out, "rollout: complete") {
		t.Errorf("patch apply says: %s", out)
	}
	// then what is changed there by hand is shown, and brought back on demand
	writeFiles(t, fresh.home, map[string]string{"omflow/app.py": "# by hand\n"})
	testkit.Await(t, timeout, "the change to be noticed", func(context.Context) error {
		if a := ask(t, s.booster.env(), "", "nodes", "drift", "server-3"); a.code != 1 || !strings.Contains(a.stdout, "changed omflow/app.py") {
			return fmt.Errorf("code %d: %s%s", a.code, a.stdout, a.stderr)
		}
		return nil
	})
	succeed(t, s.booster.env(), "nodes", "drift", "server-3", "--repair")
	if got := homeOf(t, fresh); !maps.Equal(got, next) {
		t.Errorf("it has %v, want %v", got, next)
	}
	if v := homeOf(t, fresh)[omflowtest.VersionFile]; v != next[omflowtest.VersionFile] {
		t.Errorf("it has %q", v)
	}
	s.afterSteps(20)
	s.finish()
}
