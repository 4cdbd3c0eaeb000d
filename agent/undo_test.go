package agent

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

func TestPatchIsTakenBackEverywhere(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	one, two, away := newWatchingNode(t, b, "srv1"), newWatchingNode(t, b, "srv2"), newWatchingNode(t, b, "srv3")
	nodes := []*node{one, two, away}
	for _, n := range nodes {
		n.write(patch.VersionFile, "version=1.1.4.0\n")
		n.write("omflow/gone.py", "0")
		n.start()
		n.drift(undrifted)
	}
	before := one.drift(undrifted).Baseline
	away.stop()
	a := publish(t, one.client, map[string]string{"omflow/app.py": "v1", "omflow/new/x.py": "x", patch.VersionFile: "version=1.1.5.0\n"},
		patch.Options{Deletions: []string{"omflow/gone.py"}})
	one.report(a.ID, patch.StateApplied)
	two.report(a.ID, patch.StateApplied)

	var offer bus.UndoOffer
	reply, err := one.client.NC.Request(bus.UndoSubject, []byte(a.ID), patience)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(reply.Data, &offer))
	require.Equal(t, [2]int{3, 1}, [2]int{offer.Files, offer.Deletions})
	require.NoError(t, rollout.Abort(t.Context(), one.client.JS, a.ID, "ann", "taken back"))
	reply, err = one.client.NC.Request(bus.UndoBySubject(offer.Node), []byte(a.ID), patience)
	require.NoError(t, err)
	var undo patch.Announcement
	require.NoError(t, json.Unmarshal(reply.Data, &undo), string(reply.Data))
	require.Equal(t, [2]string{a.ID, "1.1.4.0"}, [2]string{undo.Undoes, undo.To})

	away.start()
	away.report(a.ID, patch.StateSkipped)
	away.report(undo.ID, patch.StateSkipped)
	require.Equal(t, 2, away.count("server-start"), "nothing of it disturbs who never had it")
	for _, n := range nodes {
		if n != away {
			n.report(undo.ID, patch.StateApplied)
		}
		require.Equal(t, before, n.drift(undrifted).Baseline)
		require.Equal(t, "v0", n.read("omflow/app.py"))
		require.Equal(t, "0", n.read("omflow/gone.py"))
		require.NoFileExists(t, filepath.Join(n.cfg.Home, "omflow/new/x.py"))
	}
	require.NotContains(t, away.served(), "v1")

	for id, says := range map[string]string{"../../etc/passwd": "is not the id", "20260131-094500123-none": "no way back"} {
		reply, err := one.client.NC.Request(bus.UndoBySubject("srv1"), []byte(id), patience)
		require.NoError(t, err)
		require.Contains(t, reply.Header.Get("Nats-Service-Error"), says)
		_, err = one.client.NC.Request(bus.UndoSubject, []byte(id), 200*time.Millisecond)
		require.Error(t, err, "nobody offers it")
	}
}

func TestOnlyTheLastWaysBackAreKept(t *testing.T) {
	t.Parallel()
	n := newWatchingNode(t, newBus(t), "srv1")
	n.start()
	var last string
	for i := range undoKept + 2 {
		last = publish(t, n.client, map[string]string{"omflow/app.py": "v" + string(rune('1'+i))}, patch.Options{}).ID
		n.report(last, patch.StateApplied)
	}
	kept, err := filepath.Glob(filepath.Join(n.cfg.DataDir, undoDir, "*"))
	require.NoError(t, err)
	require.Len(t, kept, undoKept)
	require.Equal(t, last+undoEnd, filepath.Base(kept[undoKept-1]))
}
