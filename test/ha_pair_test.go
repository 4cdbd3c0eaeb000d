//go:build linux

package test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

// How long writes may pause.
const (
	// Nothing waits for an election. The product aims at 1 s and is measured at 0.1 s; another second is for the race detector and
	// for two cores that run several scenarios at once.
	plannedGap = 2 * time.Second
	// An election begins after 4 to 9 s without a word of the leader (NATS), whatever the machine does meanwhile.
	killedGap = 10 * time.Second
	// The connection of a client to a Booster that stands still is open. It is given up after three pings of 5 s (internal/bus), and
	// the election is over by then.
	frozenGap = 18 * time.Second
	// Both Boosters have to start again, and then to wait for an election.
	restartGap = 25 * time.Second

	healTimeout = 5 * time.Minute // until everything is as before: the race detector on busy cores
	lookLimit   = 2 * time.Second // of one question: one that a Booster took with it is never answered
)

// pair is two Boosters that know each other. The witness is beside one of the agents that a scenario starts.
type pair struct {
	t        testing.TB
	boosters [2]*booster
	bus      *bus.Client // finds the other Booster by itself, like every service
	probe    *omflowtest.Probe
}

// startPair starts two Boosters on empty stores and waits until their streams are there. There is no witness yet.
func startPair(t testing.TB, vars env) *pair {
	t.Helper()
	own, other := pairEnv(t)
	return joinPair(t, launchPair(t, merge(own, vars), merge(other, vars)))
}

// joinPair waits until the streams of two Boosters are there, and connects to them.
func joinPair(t testing.TB, p *pair) *pair {
	t.Helper()
	p.boosters[0].waitReady()
	var err error
	if p.bus, err = bus.Connect(p.boosters[0].client(), "test", zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.bus.Close)
	return p
}

// launchPair starts two Boosters with these environments, see pairEnv.
func launchPair(t testing.TB, first, second env) *pair {
	t.Helper()
	p := &pair{t: t}
	p.boosters[0] = launchOfPair(t, first, nil)
	p.boosters[1] = launchOfPair(t, second, nil)
	p.boosters[0].second, p.boosters[1].second = p.boosters[1], p.boosters[0]
	return p
}

func launchOfPair(t testing.TB, own, vars env) *booster {
	t.Helper()
	b := prepareOfPair(t, own, vars)
	b.again()
	return b
}

func prepareOfPair(t testing.TB, own, vars env) *booster {
	t.Helper()
	port, err := strconv.Atoi(own["BOOSTER_PORT"])
	if err != nil {
		t.Fatal(err)
	}
	return prepareBooster(t, own["BOOSTER_NAME"], port, merge(own, vars))
}

// pairEnv are the addresses of two Boosters, as each has to know them.
func pairEnv(t testing.TB) (first, second env) {
	t.Helper()
	first = env{
		"BOOSTER_NAME": "booster-1", "BOOSTER_PORT": strconv.Itoa(testkit.FreePort(t)),
		"BOOSTER_CLUSTER_PORT": strconv.Itoa(testkit.FreePort(t)), "HA_BOOSTER_IP": "127.0.0.1",
	}
	second = env{
		"BOOSTER_NAME": "booster-2", "BOOSTER_PORT": strconv.Itoa(testkit.FreePort(t)),
		"BOOSTER_CLUSTER_PORT": strconv.Itoa(testkit.FreePort(t)), "HA_BOOSTER_IP": "127.0.0.1",
	}
	for _, name := range []string{"BOOSTER_PORT", "BOOSTER_CLUSTER_PORT"} {
		first["HA_"+name], second["HA_"+name] = second[name], first[name]
	}
	return first, second
}

// witnessEnv makes an agent one that runs the witness when it is appointed.
func witnessEnv(t testing.TB) env {
	t.Helper()
	return env{"AGENT_WITNESS": "on", "AGENT_WITNESS_PORT": strconv.Itoa(testkit.FreePort(t))}
}

// write starts a probe that measures when writes are accepted. It goes on until stop, or the end of the test.
func (p *pair) write() (stop func()) {
	p.t.Helper()
	client, err := bus.Connect(p.boosters[0].client(), "probe", zerolog.Nop())
	if err != nil {
		p.t.Fatal(err)
	}
	p.probe = omflowtest.NewProbe(client)
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		p.probe.Run(ctx)
	}()
	stop = func() { cancel(); <-over }
	p.t.Cleanup(func() { stop(); client.Close() })
	p.await("the first write", func(context.Context) error { return p.writtenSince(time.Time{}) })
	return stop
}

func (p *pair) writtenSince(moment time.Time) error {
	if p.probe != nil && !p.probe.AcceptedSince(moment) {
		return errors.Join(errors.New("no write is accepted"), p.probe.Failure())
	}
	return nil
}

// suffer lets something happen, waits for its end, and checks for how long no write was accepted.
func (p *pair) suffer(what string, limit time.Duration, act func(), over func(since time.Time)) {
	p.t.Helper()
	began := time.Now()
	act()
	over(time.Now())
	gap := p.probe.Gap(began)
	p.t.Logf("%s: no write accepted for %.2f s, over after %.2f s", what, gap.Seconds(), time.Since(began).Seconds())
	if gap > limit {
		p.t.Errorf("%s: no write was accepted for %s, which is longer than %s", what, gap, limit)
	}
}

// await is testkit.Await with a limit for each look.
func (p *pair) await(what string, check func(ctx context.Context) error) {
	p.t.Helper()
	testkit.Await(p.t, healTimeout, what, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, lookLimit)
		defer cancel()
		return check(ctx)
	})
}

// roles tells the active Booster and the standby apart. It waits until one is active.
func (p *pair) roles() (active, standby *booster) {
	p.t.Helper()
	since := time.Now()
	p.await("one Booster to be active", func(ctx context.Context) (err error) {
		active, standby, err = p.rolesSince(ctx, since)
		return err
	})
	return active, standby
}

// rolesSince asks the heartbeats that were written after a moment: earlier ones may be of the dead.
func (p *pair) rolesSince(ctx context.Context, since time.Time) (active, standby *booster, err error) {
	nodes, err := bus.Nodes(ctx, p.bus.JS)
	if err != nil {
		return nil, nil, err
	}
	for _, n := range nodes {
		if n.Booster == nil || n.Booster.Duty != bus.DutyActive || !n.At.After(since) {
			continue
		}
		if active != nil {
			return nil, nil, errors.New("both Boosters say that they are active")
		}
		for i, b := range p.boosters {
			if b.pid() == n.PID {
				active, standby = b, p.boosters[1-i]
			}
		}
	}
	if active == nil {
		return nil, nil, errors.New("no Booster is active")
	}
	return active, standby, nil
}

// takenOver returns when this Booster leads WORK and a write was accepted. It asks the server, not the heartbeats: those are in memory, and
// when all three members have died they come back with the third.
func (p *pair) takenOver(successor *booster) func(since time.Time) {
	return func(since time.Time) {
		p.t.Helper()
		p.await(successor.name+" to take over", func(ctx context.Context) error {
			work, err := p.bus.JS.Stream(ctx, bus.StreamWork)
			if err == nil && work.CachedInfo().Cluster.Leader != successor.vars["BOOSTER_NAME"] {
				err = fmt.Errorf("%q leads %s", work.CachedInfo().Cluster.Leader, bus.StreamWork)
			}
			return errors.Join(err, p.writtenSince(since))
		})
	}
}

// healed returns when both Boosters and the witness are there, hold everything, and say so after a moment.
func (p *pair) healed(since time.Time) {
	p.t.Helper()
	p.await("a takeover to be possible", func(ctx context.Context) error {
		nodes, err := bus.Nodes(ctx, p.bus.JS)
		if err != nil {
			return err
		}
		seen, ok, witness, takeover := 0, false, false, ""
		for _, n := range nodes {
			switch {
			case !n.At.After(since):
			case n.Booster != nil && slices.ContainsFunc(p.boosters[:], func(b *booster) bool { return b.pid() == n.PID }):
				seen++
				ok = ok || n.Booster.Duty == bus.DutyActive && n.Booster.Takeover == "ok"
				takeover += n.Booster.Takeover
			case n.Agent != nil:
				witness = witness || n.Agent.WitnessState == "running" && n.Agent.WitnessPID != 0
			}
		}
		if seen < 2 || !ok || !witness {
			return fmt.Errorf("%d Boosters, takeover %q, witness runs %t", seen, takeover, witness)
		}
		return p.writtenSince(since)
	})
}

// witness is the agent that runs the witness, and its process id.
func (p *pair) witness() (agent string, pid int) {
	p.t.Helper()
	since := time.Now()
	p.await("the witness to run", func(ctx context.Context) error {
		nodes, err := bus.Nodes(ctx, p.bus.JS)
		if err != nil {
			return err
		}
		for _, n := range nodes {
			if n.Agent != nil && n.Agent.WitnessState == "running" && n.Agent.WitnessPID != 0 && n.At.After(since) {
				agent, pid = n.Name, n.Agent.WitnessPID
				return nil
			}
		}
		return errors.New("no agent says so")
	})
	return agent, pid
}

// killWitness kills the process of the witness; its agent lives.
func (p *pair) killWitness() {
	p.t.Helper()
	_, pid := p.witness()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		p.t.Fatalf("kill the witness: %s", err)
	}
}

// streams are all streams with who leads and follows.
func (p *pair) streams(ctx context.Context) ([]*jetstream.StreamInfo, error) {
	var infos []*jetstream.StreamInfo
	list := p.bus.JS.ListStreams(ctx)
	for info := range list.Info() {
		infos = append(infos, info)
	}
	return infos, list.Err()
}

// checkLeaders compares what `status` says with what the server says: one Booster is active, and leads everything.
func (p *pair) checkLeaders() {
	p.t.Helper()
	var said, leads string
	p.await("status and the server to agree on who leads", func(ctx context.Context) error {
		infos, err := p.streams(ctx)
		if err != nil {
			return err
		}
		var errs []error
		for _, info := range infos {
			if info.Config.Name == bus.StreamWork {
				leads = info.Cluster.Leader
			}
		}
		for _, info := range infos {
			if info.Cluster.Leader != leads || leads == "" {
				errs = append(errs, fmt.Errorf("%s is led by %q, %s by %q", info.Config.Name, info.Cluster.Leader, bus.StreamWork, leads))
			}
		}
		if len(infos) != bus.Streams {
			errs = append(errs, fmt.Errorf("%d streams", len(infos)))
		}
		for _, b := range p.boosters {
			if meta, err := b.metaLeader(ctx); meta != leads {
				errs = append(errs, err, fmt.Errorf("%s takes %q for the leader of the members, %q leads %s", b.name, meta, leads, bus.StreamWork))
			}
		}
		said = ""
		for _, n := range query[struct{ Boosters []bus.Node }](p.t, p.boosters[0], "status").Boosters {
			if n.Booster.Duty == bus.DutyActive {
				said += n.Name
			}
		}
		if said != leads {
			errs = append(errs, fmt.Errorf("status says that %q is active, %q leads %s", said, leads, bus.StreamWork))
		}
		return errors.Join(errs...)
	})
}

// metaLeader is who leads the members of the cluster, as this Booster's server says in the system account, where `nats server` asks, too.
func (b *booster) metaLeader(ctx context.Context) (leader string, err error) {
	password, err := os.ReadFile(filepath.Join(b.vars["BOOSTER_DATA_DIR"], "system-password"))
	if err != nil {
		return "", err
	}
	c := b.only()
	nc, err := nats.Connect(fmt.Sprintf("nats://%s:%d", c.IP, c.Port), nats.UserInfo("system", string(password)))
	if err != nil {
		return "", err
	}
	defer nc.Close()
	msg, err := nc.RequestWithContext(ctx, "$SYS.REQ.SERVER.PING.JSZ", fmt.Appendf(nil, `{"server_name":%q}`, b.name))
	if err != nil {
		return "", err
	}
	var answer struct {
		Data struct {
			Meta struct{ Leader string } `json:"meta_cluster"`
		} `json:"data"`
	}
	err = json.Unmarshal(msg.Data, &answer)
	return answer.Data.Meta.Leader, err
}
