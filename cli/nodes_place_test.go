package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
)

// An operator says where a server stands that asks.
func TestPlaceNode(t *testing.T) {
	s := newStage(t)
	if r := run(t, "", "nodes", "place", "om1"); r.code != exitUsage || !strings.Contains(r.stderr, "--after is missing") {
		t.Errorf("%+v", r)
	}
	if r := run(t, "", "nodes", "place", "om1", "--after", "20260131-094500123-k3v7q2mx"); r.code != exitFailed ||
		!strings.Contains(r.stderr, "patch 20260131-094500123-k3v7q2mx: no patch of that id is announced") {
		t.Errorf("%+v", r)
	}
	var got bus.PlaceOrder
	answer := bus.PlaceAnswer{}
	sub, err := s.c.NC.Subscribe(bus.PlaceBySubject("om1"), func(m *nats.Msg) {
		_ = json.Unmarshal(m.Data, &got)
		data, _ := json.Marshal(answer)
		_ = m.Respond(data)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.c.NC.Flush(); err != nil {
		t.Fatal(err)
	}
	r := run(t, "", "nodes", "place", "om1", "--after", "none")
	if r.code != exitOK || r.stdout != "om1 goes on with the patches that follow\n" || got.After != bus.PlaceNone {
		t.Errorf("%+v, order %+v", r, got)
	}
	if err := sub.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
}

// `nodes forget` removes a server that does not come back; status and doctor show the stores of patches and their room.
func TestRoomForPatches(t *testing.T) {
	s := newStage(t)
	if _, err := s.c.JS.Publish(s.ctx, "$KV.ROLLOUT.server.gone",
		[]byte(`{"name":"gone","runs":true,"seq":3,"seen":"2026-01-31T00:00:00Z"}`)); err != nil {
		t.Fatal(err)
	}
	stream, err := s.c.JS.Stream(s.ctx, bus.BucketStream(bus.BucketRollout))
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxBytes = 120
	if _, err := s.c.JS.UpdateStream(s.ctx, cfg); err != nil {
		t.Fatal(err)
	}
	asks := bustest.AgentNode("om1", bustest.AsIs)
	asks.Agent.PatchState, asks.Agent.PatchAsks, asks.At = "waiting: this server has no record", true, time.Now()
	s.putNode(asks)
	r := run(t, "", "status")
	for _, want := range []string{
		"KV_ROLLOUT", "WARNING: KV_ROLLOUT is ", "Away: gone (last heard 2026-01-31); for one that does not come back: omflow-booster nodes " +
			"forget NODE",
		"WARNING: agent om1 takes no patches, waiting: this server has no record",
	} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("%q is missing in\n%s", want, r.stdout)
		}
	}
	if r := run(t, "", "doctor"); !strings.Contains(r.stdout, "warn  patches") || !strings.Contains(r.stdout, "of 120 B") {
		t.Errorf("%+v", r)
	}
}
