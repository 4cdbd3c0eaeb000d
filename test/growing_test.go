//go:build linux

package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/work"
)

const (
	growSteps = 100_000 // waiting
	killSteps = 5_000   // the same where it grows again and again
	growDead  = 50      // given up on, the rows after these

	// until a growth has come to its next stage: the race detector on busy cores, and every message flushed twice
	growTimeout = 10 * time.Minute
)

// growing is a Booster that has worked alone, and the other one, which is not there yet.
type growing struct {
	*pair
	first, second *booster // the first brings its queue along
	steps         int      // waiting, rows from 1
	ha            string   // HA_BOOSTER_IP of the first
}

// firstSteps are the first steps of so many tickets, as they are filed in an empty database.
func firstSteps(tickets int) []work.Item {
	items := make([]work.Item, tickets)
	for i := range items {
		items[i] = omflowtest.Recorded().Item(int64(i)+1, 1)
		items[i].Row = int64(i) + 1
	}
	return items
}

// startSingle starts one Booster, and uses it: steps wait, the last ones are dead, a patch was published.
func startSingle(t *testing.T, items []work.Item, vars env) *growing {
	t.Helper()
	own, other := pairEnv(t)
	g := &growing{pair: &pair{t: t}, steps: len(items) - growDead, ha: own["HA_BOOSTER_IP"]}
	g.first, g.second = prepareOfPair(t, own, vars), prepareOfPair(t, other, vars)
	g.boosters = [2]*booster{g.first, g.second}
	g.startFirst()
	c := g.first.dial()
	began := time.Now()
	for i, it := range items {
		msg := stepMessage(t, it)
		if i >= g.steps {
			msg.Subject = "dead" + strings.TrimPrefix(msg.Subject, "work")
			msg.Header.Set(bus.HeaderDeadReason, "failed 5 times")
		}
		if _, err := c.JS.PublishMsgAsync(msg, jetstream.WithStallWait(timeout)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-c.JS.PublishAsyncComplete():
	case <-time.After(timeout):
		t.Fatal("the steps are not queued in time")
	}
	source := dir(t)
	writeFiles(t, source, map[string]string{omflowtest.VersionFile: "version=" + newVersion + "\n", "a": strings.Repeat("large", 100_000)})
	var artifact bytes.Buffer
	if _, err := patch.Build(&artifact, os.DirFS(source), patch.Options{Signer: signer}); err != nil {
		t.Fatal(err)
	}
	(&site{t: t, booster: g.first}).announce(artifact.Bytes(), artifact.Bytes())
	kv, err := c.JS.KeyValue(t.Context(), bus.BucketControl)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(t.Context(), "of-a-test", "kept"); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d steps queued in %.1f s", g.steps, time.Since(began).Seconds())
	return g
}

// stepMessage is a step as a worker publishes it.
func stepMessage(t testing.TB, it work.Item) *nats.Msg {
	t.Helper()
	body, err := it.Encode()
	if err != nil {
		t.Fatal(err)
	}
	id := work.ID{Source: work.Queue, Row: it.Row}
	flow, key := it.Flow()
	msg := nats.NewMsg(bus.WorkSubject(it.Name, flow, id.String()))
	msg.Data = body
	msg.Header.Set(bus.HeaderMsgID, id.MsgID())
	msg.Header.Set(bus.HeaderID, id.String())
	msg.Header.Set(bus.HeaderKey, key)
	msg.Header.Set(bus.HeaderKind, it.Name)
	return msg
}

// grow starts the first Booster as one of two, alone as a single one.
func (g *growing) grow() { g.first.vars["HA_BOOSTER_IP"] = g.ha; g.first.again() }

func (g *growing) startFirst() {
	delete(g.first.vars, "HA_BOOSTER_IP")
	g.first.again()
	g.first.waitReady()
}

// growState is what the data directory of a Booster says of its growth.
type growState struct {
	Mode, Growth string
	snapshot     string // none, begun, whole
	old          bool   // the old store is set aside
	streams      []string
}

func (g *growing) state() (s growState) {
	data := g.first.vars["BOOSTER_DATA_DIR"]
	there := func(name string) bool {
		_, err := os.Stat(filepath.Join(data, name))
		return err == nil
	}
	// The marker last: what it says has happened before.
	switch s.snapshot = "none"; {
	case there("growth/manifest.json"):
		s.snapshot = "whole"
	case there("growth"):
		s.snapshot = "begun"
	}
	s.old = there("jetstream.standalone")
	entries, _ := os.ReadDir(filepath.Join(data, "jetstream", "$G", "streams"))
	for _, e := range entries {
		s.streams = append(s.streams, e.Name())
	}
	state, err := os.ReadFile(filepath.Join(data, "booster.json"))
	if err == nil {
		err = json.Unmarshal(state, &s)
	}
	if err != nil {
		g.t.Error(err)
	}
	return s
}

// has tells whether the Booster's new store has begun to take a stream.
func (s growState) has(stream string) bool {
	return s.Mode == "cluster" && slices.Contains(s.streams, stream)
}

func (s growState) String() string {
	return fmt.Sprintf("mode %s, growth %q, snapshot %s, old store aside %t, streams %v", s.Mode, s.Growth, s.snapshot, s.old, s.streams)
}

// killWhen kills the first Booster as soon as its growth has come to a stage. What it has then done meanwhile is logged. On a
// busy machine it may be through before anybody has seen it at a short stage: then it is killed at the end, and that is logged.
func (g *growing) killWhen(stage string, reached func(growState) bool) {
	g.t.Helper()
	const every = 200 * time.Microsecond // stages may be short
	tick := time.NewTicker(every)
	defer tick.Stop()
	for began := time.Now(); !reached(g.state()); <-tick.C {
		if s := g.state(); s.Growth == "" && s.Mode == "cluster" && !reached(s) {
			g.first.kill()
			g.t.Logf("NOT SEEN: %s; the growth was over before: %s", stage, s)
			return
		}
		if time.Since(began) > growTimeout || !g.first.running() {
			g.t.Fatalf("%s was not reached: %s", stage, g.state())
		}
	}
	g.first.kill()
	g.t.Logf("killed when %s; left: %s", stage, g.state())
}

// run takes one step as a worker does, from the Boosters and from what is to be there. It tells whether there was one to be had.
func (g *growing) run(worker *bus.Client, want copyOfStream) bool {
	ctx, cancel := context.WithTimeout(g.t.Context(), lookLimit)
	defer cancel()
	consumer, err := worker.JS.Consumer(ctx, bus.StreamWork, bus.ConsumerWorkers)
	if err != nil {
		return false
	}
	steps, err := consumer.FetchNoWait(1)
	if err != nil {
		return false
	}
	msg, there := <-steps.Messages()
	if !there {
		return false
	}
	taken, err := msg.Metadata()
	if err == nil {
		err = msg.DoubleAck(ctx)
	}
	if err != nil {
		g.t.Fatalf("run a step: %s", err)
	}
	delete(want, taken.Sequence.Stream)
	return true
}

// contents is all that is in each stream, but for the heartbeats, asked through a Booster.
func (g *growing) contents(b *booster) map[string]copyOfStream {
	g.t.Helper()
	c := b.dialTo(b.only())
	all := map[string]copyOfStream{}
	g.await("the streams of "+b.name, func(ctx context.Context) error {
		names := c.JS.StreamNames(ctx)
		for name := range names.Name() {
			all[name] = nil
		}
		if len(all) != bus.Streams {
			return errors.Join(fmt.Errorf("it has %d", len(all)), names.Err())
		}
		return nil
	})
	delete(all, "KV_"+bus.BucketNodes)
	for name := range all {
		all[name] = b.readLed(name)
	}
	maps.DeleteFunc(all["KV_"+bus.BucketControl], func(_ uint64, m message) bool { // who is active writes it anew every two seconds
		return strings.HasPrefix(m.subject, "$KV."+bus.BucketControl+".lock.")
	})
	return all
}

// checkSame compares all streams before and after.
func (g *growing) checkSame(when string, before, after map[string]copyOfStream) {
	g.t.Helper()
	if n := len(before[bus.StreamWork]); n < g.steps-1 || n > g.steps || len(before[bus.StreamDead]) != growDead {
		g.t.Errorf("there were %d steps and %d dead ones before", len(before[bus.StreamWork]), len(before[bus.StreamDead]))
	}
	for name := range before {
		if n := differences(before[name], after[name]); n > 0 {
			g.t.Errorf("%s: %s had %d messages and has %d, of which %d differ", when, name, len(before[name]), len(after[name]), n)
		}
	}
}
