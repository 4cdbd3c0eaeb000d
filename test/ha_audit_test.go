//go:build linux

package test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// auditEvery is longer than a server keeps a block of its store in memory after it has read it (10 s): what it reads then is the file.
const auditEvery = 15 * time.Second

// A file of one copy of the queue is damaged, while its Booster is down or while it runs. It leads only when it has everything again.
func TestDamagedReplicaIsHealedBeforeItLeads(t *testing.T) {
	t.Parallel()
	// given two Boosters and a witness, a queue of several files that nobody takes from, and somebody who writes all the time
	p := startPair(t, env{"BOOSTER_AUDIT_EVERY": auditEvery.String(), "LOG_LEVEL": "info"})
	startAgent(t, "agent-1", p.boosters[0], dir(t), merge(witnessEnv(t), env{"AGENT_WORKER": "off", "AGENT_RESTART_MIN": "100ms"}))
	p.healed(time.Now())
	filled := p.fill(10_000)
	stop := p.write()
	active, standby := p.roles()

	// when the standby comes back with a damaged file
	rebuilt := 0
	for _, damage := range []struct {
		what string
		do   func(file string) error
	}{
		{"a file is cut off", cutOff},
		{"bytes of a file are flipped", flipBytes},
		{"a file is gone", os.Remove},
	} {
		standby.stop()
		p.damage(standby, damage.do)
		rebuilt++
		p.suffer(damage.what, plannedGap, standby.again, func(since time.Time) {
			p.healed(since)
			// then a takeover was not possible before it was rebuilt
			if said := strings.Count(active.output(), "copy rebuilt and found equal"); said != rebuilt {
				t.Fatalf("%s: %d copies rebuilt, want %d", damage.what, said, rebuilt)
			}
		})
	}
	// when a file is cut off below a standby that runs
	p.damage(standby, cutOff)
	rebuilt++
	p.await("the copy to be rebuilt", func(context.Context) error {
		if said := strings.Count(active.output(), "copy rebuilt and found equal"); said != rebuilt {
			return fmt.Errorf("%d copies rebuilt, want %d", said, rebuilt)
		}
		return nil
	})
	p.healed(time.Now())

	// then it has everything when it leads
	p.suffer("kill -9 of the active", killedGap, active.kill, p.takenOver(standby))
	stop()
	accepted, err := p.probe.Accepted()
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(accepted, filled)
	p.checkHolds(accepted)
}

// fill publishes messages of 1 KiB, each under a subject of its own, and returns the subjects by their places in WORK.
func (p *pair) fill(n int) map[uint64]string {
	p.t.Helper()
	const parallel = 50
	var mu sync.Mutex
	filled := make(map[uint64]string, n)
	failed := make(chan error, parallel)
	for w := range parallel {
		go func() {
			var err error
			for i := w; i < n && err == nil; i += parallel {
				subject := bus.WorkSubject("fill", "f", fmt.Sprint(i))
				var ack *jetstream.PubAck
				if ack, err = p.bus.JS.Publish(p.t.Context(), subject, make([]byte, 1024)); err == nil {
					mu.Lock()
					filled[ack.Sequence] = subject
					mu.Unlock()
				}
			}
			failed <- err
		}()
	}
	for range parallel {
		if err := <-failed; err != nil {
			p.t.Fatalf("fill the queue: %s", err)
		}
	}
	return filled
}

// damage does something to the first file of a Booster's copy of WORK.
func (p *pair) damage(b *booster, do func(file string) error) {
	p.t.Helper()
	files, err := filepath.Glob(filepath.Join(b.vars["BOOSTER_DATA_DIR"], "jetstream", "$G", "streams", bus.StreamWork, "msgs", "*.blk"))
	if err != nil || len(files) < 2 {
		p.t.Fatalf("files of %s: %v %v, want several", b.name, files, err)
	}
	if err := do(files[0]); err != nil {
		p.t.Fatal(err)
	}
}

func cutOff(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	return os.Truncate(file, info.Size()/2)
}

func flipBytes(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for i := range 16 {
		data[len(data)/3+i] ^= 0xff
	}
	return os.WriteFile(file, data, 0o600)
}
