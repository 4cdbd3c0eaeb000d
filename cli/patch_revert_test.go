package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

// Who orders a rollback is named with it, and a second order finds the first.
func TestPatchRevertNamesWhoOrderedIt(t *testing.T) {
	s := newStage(t)
	useJoinFile(t)
	s.putNode(runningServer("srv1", ""))
	if r := run(t, "", "patch", "publish", files(t, map[string]string{"omflow/a.py": "new"})); r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	list, err := patch.List(s.ctx, s.c.JS)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	id := list[0].ID
	if r := run(t, "", "patch", "rollback", id, "--note", strings.Repeat("n", 4097)); r.code != exitUsage ||
		!strings.Contains(r.stderr, "--note has 4097 bytes; give at most 4096") {
		t.Errorf("%+v", r)
	}
	if p, _, err := rollout.Read(s.ctx, s.c.JS, id); err != nil || p.State == rollout.StateAborted {
		t.Fatal("the patch itself goes on until the order is taken: ", p.State, err)
	}

	answer := func(subject string, with func(m *nats.Msg) any) {
		sub, err := s.c.NC.Subscribe(subject, func(m *nats.Msg) {
			data, _ := json.Marshal(with(m))
			_ = m.Respond(data)
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = sub.Unsubscribe() })
	}
	answer(bus.RevertSubject, func(*nats.Msg) any { return bus.RevertOffer{Node: "srv1", Files: 1} })
	answer(bus.RevertBySubject("srv1"), func(m *nats.Msg) any {
		var order bus.RevertOrder
		_ = json.Unmarshal([]byte(m.Header.Get(bus.HeaderRevertOrder)), &order)
		revert := patch.Announcement{
			ID: "20260131-094500123-undo", StoredArtifact: patch.StoredArtifact{Object: "x", Size: 1, SHA256: strings.Repeat("0", 64)},
			Reverts: string(m.Data), Author: order.By,
			Note: order.Note,
		}
		revert, _ = patch.Announce(s.ctx, s.c.JS, revert)
		return revert
	})
	if r := run(t, "", "patch", "rollback", id, "--note", "lost\nits dates"); r.code != exitOK ||
		!strings.Contains(r.stdout, "20260131-094500123-undo takes "+id+" back, with the files of srv1.\n") {
		t.Errorf("%+v", r)
	}
	list, err = patch.List(s.ctx, s.c.JS)
	if err != nil || len(list) != 2 || list[1].Author != userName() || list[1].Note != "lost\nits dates" {
		t.Fatal(list, err)
	}
	r := run(t, "", "patch", "rollback", id, "--note", "me too")
	if want := "-undo takes " + id + " back already, by order of " + userName() + ": lost its dates\n"; r.code != exitOK ||
		!strings.Contains(r.stdout, want) {
		t.Errorf("%q is not in %+v", want, r)
	}
	if p, _, err := rollout.Read(s.ctx, s.c.JS, id); err != nil || p.Reason != "lost\nits dates" {
		t.Errorf("the second order has changed the first: %+v %v", p, err)
	}
}
