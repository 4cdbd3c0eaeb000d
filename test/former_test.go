//go:build linux

package test

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

// formerRelease is the commit of the release before this one. A release writes its own commit here for the next one. Between releases it
// stays: installations run the last release, not the last commit, and only that one lacks what came since: a migration, plan formats.
//
//go:embed former-release
var formerRelease string

// programVar in env: the program that is started in the place of the one under test.
const programVar = "TEST_PROGRAM"

// former says that a process is of the release before this one, which is built from the history of the repository.
func former(t testing.TB) env {
	t.Helper()
	program, err := buildFormer()
	if errors.Is(err, errNoHistory) {
		t.Skipf("NOT TESTED: this release beside the one before it, and an upgrade from that: %s", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return env{programVar: program}
}

var errNoHistory = errors.New("the history of the repository does not have the release before this one (test/former-release)")

// buildFormer builds it once, as test.sh builds what is shipped: that is in the build cache already.
var buildFormer = sync.OnceValues(func() (string, error) {
	commit := strings.TrimSpace(formerRelease)
	var said bytes.Buffer
	// The checkout may belong to somebody else than the one who tests.
	archive := exec.Command("git", "-c", "safe.directory=*", "-C", "..", "archive", commit)
	archive.Stderr = &said
	source, err := archive.Output()
	if err != nil {
		return "", fmt.Errorf("%w: git archive %s: %w: %s", errNoHistory, commit, err, said.String())
	}
	dir := filepath.Join(filepath.Dir(standIn), "former")
	program := filepath.Join(dir, "omflow-booster")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	unpack := exec.Command("tar", "-x", "-C", dir)
	unpack.Stdin = bytes.NewReader(source)
	if out, err := unpack.CombinedOutput(); err != nil {
		return "", fmt.Errorf("unpack %s: %w\n%s", commit, err, out)
	}
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, ".")
	build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", commit, err, out)
	}
	return program, nil
})

// isFormer fails the test unless the process runs the program of the former release.
func (p *process) isFormer(old env) {
	p.t.Helper()
	if program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.pid())); err != nil || program != old[programVar] {
		p.t.Fatalf("%s runs %s, want %s (%v)", p.name, program, old[programVar], err)
	}
}

// upgrade has a process be of this release from its next start on.
func (p *process) upgrade() { p.program = binary }

func TestUpgradeOfAWholeInstallation(t *testing.T) {
	t.Parallel()
	old := former(t)
	// given an installation of the former release: a patch was applied, another one waits for its approval, one step is dead and others wait
	faults := omflowtest.Faults{Poison: 0.1, Slow: 0.9}
	s := emptySite(t, merge(old, env{
		"BOOSTER_LEASE": "3s", "WORKER_MAX_ATTEMPTS": "2", "WORKER_RETRY_BASE": "10ms",
		"OMFLOWTEST_POISON": "0.1", "OMFLOWTEST_SLOW": "0.9", "OMFLOWTEST_SLOW_FOR": "30m",
	}))
	s.serversFail = true
	seed := s.seedThat(faults, func(f omflowtest.Faults) bool {
		waits := true
		for row := range int64(waiting) {
			waits = waits && f.IsSlow(row+2, 1) && !f.Fails(row+2, 1)
		}
		return waits && f.Fails(1, 1) && !f.IsSlow(1, 1) && !f.IsSlow(1, 2)
	})
	s.vars["OMFLOWTEST_SEED"] = strconv.FormatInt(seed, 10)
	s.booster = startBooster(t, s.vars)
	srv := s.startUnderAgent("om1.example.com", oldVersion, nil)
	s.servers = append(s.servers, srv)
	s.booster.isFormer(old)
	srv.agent.isFormer(old)
	applied := s.publishFormer(old, threeFiles(newVersion))
	s.appliedOn(applied, srv.name)
	waits := s.publishFormer(old, threeFiles("1.1.4.2"), "--approval")
	s.file(1)
	s.holds(outcome{dead: 1})
	s.file(waiting)
	s.holds(outcome{dead: 1, work: waiting})
	testkit.Await(t, timeout, "the agent to wait with the second patch", func(ctx context.Context) error {
		if now, err := srv.agent.state(ctx); err != nil || now.PatchNext != waits {
			return fmt.Errorf("%+v (%w)", now, err)
		}
		return nil
	})
	// when the host of the server is switched off and the Booster is stopped, and both come back with this release
	srv.agent.killAll()
	s.booster.stop()
	for _, p := range []*process{s.booster.process, srv.agent.process} {
		p.upgrade()
		p.vars["OMFLOWTEST_POISON"], p.vars["OMFLOWTEST_SLOW"] = "0", "0"
	}
	s.booster.restart()
	// then the Booster has all of it
	s.holds(outcome{dead: 1, work: waiting})
	if ids, _ := s.dead(); !slices.Equal(ids, []string{"q1"}) {
		t.Errorf("dead are %v", ids)
	}
	if _, r, err := s.show(waits); err != nil || r.State != "approval" {
		t.Errorf("the rollout of the second patch is %+v (%v)", r, err)
	}
	srv.agent.restart()
	testkit.Await(t, startTimeout, srv.name+" to answer", srv.healthy)
	// then the second patch is applied once it is approved, and the first one not again
	succeed(t, s.booster.env(), "patch", "approve", waits)
	s.rolledOut(waits)
	testkit.Await(t, timeout, "the second patch", srv.runs("1.1.4.2"))
	checkOrder(t, srv, []string{applied, waits})
	// then every step is done, and the dead one when it is tried again
	succeed(t, s.booster.env(), "dead", "retry", "--all")
	s.finish()
}

const waiting = 5 // steps

// threeFiles is a patch as checkOrder knows it.
func threeFiles(version string) map[string]string {
	files := versionFiles(version)
	files["omflow/templates/about.html"] = version + "\n"
	return files
}

// holds waits until the Booster has so many steps.
func (s *site) holds(want outcome) {
	s.t.Helper()
	testkit.Await(s.t, timeout, fmt.Sprintf("%d steps on WORK and %d on DEAD", want.work, want.dead), func(ctx context.Context) error {
		o, err := s.outcome(ctx)
		if err == nil && (o.work != want.work || o.dead != want.dead) {
			err = fmt.Errorf("it looks like this:%s", o)
		}
		return err
	})
}

// publishFormer publishes files as a patch, with the program of the former release. It returns the patch's id.
func (s *site) publishFormer(old env, files map[string]string, options ...string) string {
	s.t.Helper()
	source := dir(s.t)
	writeFiles(s.t, source, files)
	cmd := exec.Command(old[programVar], append([]string{"patch", "publish", source, "--json"}, options...)...)
	cmd.Env = environ(s.booster.env())
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	var printed struct{ ID string }
	if err = errors.Join(err, json.Unmarshal(out, &printed)); err != nil || printed.ID == "" {
		s.t.Fatalf("patch publish of the former release: %v\n%s", err, out)
	}
	return printed.ID
}

func TestWorkersOfTwoReleases(t *testing.T) {
	t.Parallel()
	old := former(t)
	// given a Booster of this release with a worker of the former one, at which people file tickets
	s := prepareSite(t, env{"BOOSTER_LEASE": "3s"})
	s.vars = merge(s.vars, old)
	s.servers = append(s.servers, s.startServer("former"))
	s.servers[0].worker.isFormer(old)
	delete(s.vars, programVar)
	s.fileTickets()
	s.afterSteps(10)
	// when a worker of this release comes, which brings the tables up to date
	s.servers = append(s.servers, s.startServer("new"))
	// then both do steps, of tickets that either has filed
	for _, srv := range s.servers {
		s.after(10, "steps of "+srv.name, `SELECT count(*) FROM omflowtest_effect WHERE server = '`+srv.name+`'`)
	}
	// then the former one cannot be started any more, and says why
	w := s.servers[0].worker
	w.stop()
	w.again()
	if code := w.exitCode(startTimeout); code == 0 || !strings.Contains(w.output(), "update omflow-booster on this host") {
		t.Errorf("a worker of the former release ended with code %d", code)
	}
	// then it goes on with this release
	w.upgrade()
	w.restart()
	s.after(10, "steps of "+w.name, `SELECT count(*) FROM omflowtest_effect WHERE server = '`+w.name+`'`)
	s.finish()
}

func TestPatchReachesAgentsOfTwoReleases(t *testing.T) {
	t.Parallel()
	old := former(t)
	// given a Booster of this release with an agent of the former one and an agent of this one, at which people file tickets
	installed := filepath.Join(dir(t), "omflow-booster")
	install(t, old[programVar], installed)
	s := prepareSite(t, env{"BOOSTER_LEASE": "3s"})
	s.serversFail = true // while they are patched
	s.servers = append(s.servers, s.startUnderAgent("server-1", oldVersion, env{programVar: installed}))
	s.servers = append(s.servers, s.startUnderAgent("server-2", oldVersion, nil))
	s.fileTickets()
	s.afterSteps(20)
	// when this release is installed on the host of the former one, whose agent is not started again yet, and a patch is published
	install(t, binary, installed)
	before := s.servers[0].agent.running(bus.AgentState{})
	id := s.publish(versionFiles(newVersion), "--from", oldVersion)
	// then both have it: the former agent starts the worker of this release
	s.rolledOut(id)
	if format, known := s.planFormat(id), formerPlanFormat(t, old); format > known {
		t.Errorf("this release writes plans of format %d, and agents of the former release know %d", format, known)
	}
	for _, srv := range s.servers {
		testkit.Await(t, timeout, srv.name+" to run "+newVersion, srv.runs(newVersion))
	}
	s.servers[0].agent.running(before)
	s.after(10, "steps of server-1", `SELECT count(*) FROM omflowtest_effect WHERE server = 'server-1'`)
	// then the agent, started again, is of this release, and the next patch reaches both
	s.servers[0].agent.stop()
	s.servers[0].agent.restart()
	s.rolledOut(s.publish(versionFiles("1.1.4.2"), "--from", newVersion))
	s.finish()
}

// planFormat is the format of the plan of a patch, as it is in ROLLOUT.
func (s *site) planFormat(id string) (format int) {
	s.t.Helper()
	value, _, err := bus.ReadKey(s.t.Context(), s.booster.dial().JS, bus.BucketRollout, bus.PlanPrefix+bus.Token(id))
	var plan struct{ Format int }
	if err = errors.Join(err, json.Unmarshal(value, &plan)); err != nil {
		s.t.Fatalf("plan of %s: %v\n%s", id, err, value)
	}
	return plan.Format
}

// formerPlanFormat is the newest format of a plan that the former release understands, as its source says. A release without formats reads
// every plan as one of format 1, and would act on a newer one without noticing.
func formerPlanFormat(t testing.TB, old env) int {
	t.Helper()
	source, err := os.ReadFile(filepath.Join(filepath.Dir(old[programVar]), "internal", "rollout", "plan.go"))
	if err != nil {
		t.Fatal(err)
	}
	constant := regexp.MustCompile(`(?m)^const PlanFormat = (\d+)$`).FindSubmatch(source)
	if constant == nil {
		return 1
	}
	format, err := strconv.Atoi(string(constant[1]))
	if err != nil {
		t.Fatal(err)
	}
	return format
}

// install puts a program in the place of the one that is there, which may be running, as a package manager does.
func install(t testing.TB, program, place string) {
	t.Helper()
	content, err := os.ReadFile(program)
	if err == nil {
		err = os.WriteFile(place+".new", content, 0o755)
	}
	if err = errors.Join(err, os.Rename(place+".new", place)); err != nil {
		t.Fatal(err)
	}
}

func TestFormerBoosterWithThisRelease(t *testing.T) {
	t.Parallel()
	old := former(t)
	// given a Booster of the former release, and two servers of this one, at which people file tickets
	s := emptySite(t, env{"BOOSTER_LEASE": "3s"})
	s.serversFail = true // while they are patched
	s.booster = startBooster(t, merge(s.vars, old))
	s.booster.isFormer(old)
	for _, name := range []string{"server-1", "server-2"} {
		s.servers = append(s.servers, s.startUnderAgent(name, oldVersion, nil))
	}
	s.fileTickets()
	s.afterSteps(20)
	// when a patch is published
	id := s.publish(versionFiles(newVersion), "--from", oldVersion)
	// then both have it, one after the other
	s.rolledOut(id)
	for _, srv := range s.servers {
		testkit.Await(t, timeout, srv.name+" to run "+newVersion, srv.runs(newVersion))
	}
	// then no step is lost, failed or done twice
	s.afterSteps(20)
	s.finish()
}

func TestBoostersOfTwoReleasesAreACluster(t *testing.T) {
	t.Parallel()
	old := former(t)
	// given two Boosters of the former release, and a server with the witness beside its agent, at which people file tickets
	s := emptySite(t, merge(old, env{"BOOSTER_LEASE": "5s"}))
	p := startPair(t, s.vars)
	s.booster = p.boosters[0]
	s.servers = append(s.servers, s.startUnderAgent("server-1", oldVersion, witnessEnv(t)))
	s.serversFail = true // while its agent is started again
	p.healed(time.Now())
	s.fileTickets()
	// when one after the other is started with this release, the standby first, and in the end the agent with the witness
	_, standby := p.roles()
	for _, b := range []*booster{standby, standby.second} {
		b.isFormer(old)
		b.stop()
		b.upgrade()
		restarted := time.Now()
		b.again()
		p.healed(restarted)
		s.afterSteps(10)
	}
	s.servers[0].agent.stop()
	s.servers[0].agent.upgrade()
	restarted := time.Now()
	s.servers[0].agent.restart()
	p.healed(restarted)
	// then nothing that one of them holds was taken for damaged, and no step is lost, failed or done twice
	for _, b := range p.boosters {
		if strings.Contains(b.output(), "copy differs from the others") {
			t.Errorf("%s found copies that differ", b.name)
		}
	}
	s.afterSteps(10)
	s.finish()
}
