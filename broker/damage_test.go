package broker

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/testkit"
)

const auditTimeout = 2 * timeout // a member starts twice

// trio is two Boosters and a witness, and a queue that nobody takes from.
type trio struct {
	t             *testing.T
	active, other *Broker
	stopActive    func() error
	otherRun      member
	otherCfg      Config
	activeCfg     Config
	grant         bus.WitnessGrant
	witnessDir    string
	witness       member
	client        *bus.Client
	messages      int
}

func startTrio(t *testing.T, messages int) *trio {
	t.Helper()
	cfgA, cfgB := pair(t)
	a, runA := startBooster(t, cfgA, "a")
	b, runB := startBooster(t, cfgB, "b")
	runA.wait(t)
	runB.wait(t)
	c := dialBoth(t, cfgA)
	agentBeat(t, c, "server-1", fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t)))
	first := activeOf(t, "no automatic takeover: no witness", a, b)
	x := &trio{t: t, client: c, messages: messages, grant: grant(t, first, "server-1"), witnessDir: t.TempDir()}
	x.witness = startWitnessIn(t, x.grant, x.witnessDir)
	x.witness.wait(t)
	x.active, x.activeCfg, x.stopActive = activeOf(t, "ok", a, b), cfgA, runA.stop
	x.other, x.otherCfg, x.otherRun = b, cfgB, runB
	if x.active == b {
		x.activeCfg, x.stopActive = cfgB, runB.stop
		x.other, x.otherCfg, x.otherRun = a, cfgA, runA
	}
	x.publish(0, messages)
	return x
}

// dialBoth is a client of the Booster with this configuration and of the other one.
func dialBoth(t *testing.T, cfg Config) *bus.Client {
	t.Helper()
	c, err := bus.Dial(bus.ClientConfig{IP: cfg.IP, Port: cfg.Port, SecondIP: cfg.HAIP, SecondPort: cfg.HAPort}, t.Name())
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// publish fills WORK with messages of 1 KiB, each under a subject of its own. Leadership may move meanwhile.
func (x *trio) publish(from, to int) {
	x.t.Helper()
	const parallel = 50
	ctx, cancel := context.WithTimeout(x.t.Context(), auditTimeout)
	defer cancel()
	var writers sync.WaitGroup
	for w := range parallel {
		writers.Go(func() {
			for n := from + w; n < to; n += parallel {
				for ctx.Err() == nil {
					_, err := x.client.JS.Publish(ctx, fmt.Sprintf("work.k.f.q%d", n), make([]byte, 1024))
					if err == nil || bus.IsQueued(err) {
						break
					}
				}
			}
		})
	}
	writers.Wait()
	require.NoError(x.t, ctx.Err(), "the queue does not take all messages")
}

// blocks are the files of a Booster's copy of WORK, in order.
func blocks(t *testing.T, cfg Config) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(cfg.DataDir, storeName, "$G", "streams", bus.StreamWork, "msgs", "*.blk"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return files
}

// checkHolds looks for every message in the copy of the Booster that leads.
func (x *trio) checkHolds() {
	x.t.Helper()
	var have map[string]uint64
	require.Eventually(x.t, func() bool {
		st, err := x.client.JS.Stream(x.t.Context(), bus.StreamWork)
		if err != nil {
			return false // leadership moves
		}
		info, err := st.Info(x.t.Context(), jetstream.WithSubjectFilter(">"))
		if err != nil {
			return false
		}
		have = info.State.Subjects
		return true
	}, auditTimeout, 20*time.Millisecond, "no answer of who leads WORK")
	require.Len(x.t, have, x.messages)
}

// damages are what can happen to a file of a store.
var damages = map[string]func(t *testing.T, file string){
	"cut off": func(t *testing.T, file string) {
		info, err := os.Stat(file)
		require.NoError(t, err)
		require.NoError(t, os.Truncate(file, info.Size()/2))
	},
	"bytes flipped": func(t *testing.T, file string) {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		for i := range 16 {
			data[len(data)/3+i] ^= 0xff
		}
		require.NoError(t, os.WriteFile(file, data, 0o600))
	},
	"gone": func(t *testing.T, file string) { require.NoError(t, os.Remove(file)) },
}

// foundBy tells when the audit of a Booster next says that copies differ. It begins to look at once: the damage may be healed
// before the damaged one calls itself ready.
func foundBy(b *Broker) <-chan time.Time {
	found := make(chan time.Time, 1)
	go func() {
		defer close(found)
		for deadline := time.Now().Add(auditTimeout); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			l := b.now.Load()
			if l == nil {
				continue
			}
			if v := l.member.audit.Verdict(); v != nil && v.Finding != "" {
				found <- time.Now()
				return
			}
		}
	}()
	return found
}

func TestDamagedCopyIsRebuiltBeforeItLeads(t *testing.T) {
	t.Parallel()
	x := startTrio(t, 10_000) // more than one block
	other, run := x.other, x.otherRun
	for name, damage := range damages {
		require.NoError(t, run.stop())
		damage(t, blocks(t, x.otherCfg)[0])
		began := time.Now()
		found := foundBy(x.active)
		other, run = startBooster(t, x.otherCfg, "again")
		run.wait(t)
		x.publish(x.messages, x.messages+100) // what it confirms while it is damaged
		x.messages += 100
		at := <-found
		require.False(t, at.IsZero(), "damage not found")
		require.Eventually(t, func() bool { return x.active.takeover() == "ok" }, auditTimeout, 10*time.Millisecond, "damage not healed")
		t.Logf("%s: found %s after the start, healed after %s", name, at.Sub(began), time.Since(began))
		require.NoDirExists(t, filepath.Join(x.otherCfg.DataDir, asideDir, bus.StreamWork), "put aside until the new copy was found equal")
	}
	require.NoError(t, x.stopActive())
	require.True(t, other.leads(), "the stop returns when the other one leads")
	x.checkHolds()
}

// After a full stop the damaged one is back first, and the witness elects it.
func TestDamagedCopyThatLeadsIsFound(t *testing.T) {
	t.Parallel()
	x := startTrio(t, 10_000)
	for _, stop := range []func() error{x.otherRun.stop, x.stopActive, x.witness.stop} {
		require.NoError(t, stop())
	}
	damages["gone"](t, blocks(t, x.otherCfg)[0])
	w := startWitnessIn(t, x.grant, x.witnessDir)
	w.wait(t)
	damaged, run := startBooster(t, x.otherCfg, "damaged")
	run.wait(t)
	require.Eventually(t, damaged.active, auditTimeout, 10*time.Millisecond)
	x.client = dialBoth(t, x.otherCfg) // the former one gave up while all were away
	x.publish(x.messages, x.messages+100)
	x.messages += 100

	began := time.Now()
	whole, run := startBooster(t, x.activeCfg, "whole")
	run.wait(t)
	require.Eventually(t, whole.active, auditTimeout, 10*time.Millisecond, "the one that differs still leads")
	t.Logf("handed over %s after the other one was started", time.Since(began))
	x.checkHolds()
	require.Eventually(t, func() bool { return whole.takeover() == "ok" }, auditTimeout, 10*time.Millisecond, "damage not healed")
	t.Logf("healed after %s", time.Since(began))
}
