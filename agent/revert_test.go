package agent

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

func TestPatchIsTakenBackEverywhere(t *testing.T) {
	t.Parallel()
	b := newBusWith(t, rollout.Policy{MaxUnavailable: 2, MaxFailures: 100}) // one of them is away, and counts if the Booster has noted it
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

	var offer bus.RevertOffer
	reply, err := one.client.NC.Request(bus.RevertSubject, []byte(a.ID), timeout)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(reply.Data, &offer))
	require.Equal(t, [2]int{3, 1}, [2]int{offer.Files, offer.Deletions})
	require.NoError(t, rollout.Abort(t.Context(), one.client.JS, a.ID, "ann", "taken back"))
	ordered := time.Now().Truncate(time.Millisecond)
	reply, err = one.client.NC.RequestMsg(&nats.Msg{
		Subject: bus.RevertBySubject(offer.Node), Data: []byte(a.ID),
		Header: nats.Header{"Undo-Order": {`{"by":"bob","note":"the leave form\nlost its dates: 請假"}`}},
	}, timeout)
	require.NoError(t, err)
	var revert patch.Announcement
	require.NoError(t, json.Unmarshal(reply.Data, &revert), string(reply.Data))
	require.Equal(t, [2]string{"bob", "the leave form\nlost its dates: 請假"}, [2]string{revert.Author, revert.Note})
	require.False(t, revert.Created.Before(ordered), "made when it was ordered, not with the patch")
	require.GreaterOrEqual(t, revert.ID, patch.NewID(ordered)[:len("20260131-094500123")], "and so says its id")
	left, err := filepath.Glob(filepath.Join(one.cfg.DataDir, revertDir, ".*"))
	require.NoError(t, err)
	require.Empty(t, left)
	require.Equal(t, [2]string{a.ID, "1.1.4.0"}, [2]string{revert.Reverts, revert.To})

	away.start()
	away.report(a.ID, patch.StateSkipped)
	away.report(revert.ID, patch.StateSkipped)
	require.Equal(t, 2, away.count("server-start"), "nothing of it disturbs who never had it")
	for _, n := range nodes {
		if n != away {
			n.report(revert.ID, patch.StateApplied)
		}
		require.Equal(t, before, n.drift(undrifted).Baseline)
		require.Equal(t, "v0", n.read("omflow/app.py"))
		require.Equal(t, "0", n.read("omflow/gone.py"))
		require.NoFileExists(t, filepath.Join(n.cfg.Home, "omflow/new/x.py"))
	}
	require.NotContains(t, away.served(), "v1")

	// Who orders it twice, or with the program of a former release, disturbs nobody.
	for _, server := range []string{"srv1", "srv2"} {
		reply, err = one.client.NC.Request(bus.RevertBySubject(server), []byte(a.ID), timeout)
		require.NoError(t, err)
		var again patch.Announcement
		require.NoError(t, json.Unmarshal(reply.Data, &again), string(reply.Data))
		require.Equal(t, [3]string{revert.ID, "bob", revert.Note}, [3]string{again.ID, again.Author, again.Note})
	}
	require.Len(t, reverts(t, one, a.ID), 1)

	for id, says := range map[string]string{"../../etc/passwd": "is not the id", "20260131-094500123-none": "no way back"} {
		reply, err := one.client.NC.Request(bus.RevertBySubject("srv1"), []byte(id), timeout)
		require.NoError(t, err)
		require.Contains(t, reply.Header.Get("Nats-Service-Error"), says)
		_, err = one.client.NC.Request(bus.RevertSubject, []byte(id), 200*time.Millisecond)
		require.Error(t, err, "nobody offers it")
	}
}

// reverts are the patches on the bus that take one back.
func reverts(t *testing.T, n *node, id string) (ids []string) {
	t.Helper()
	list, err := patch.List(t.Context(), n.client.JS)
	require.NoError(t, err)
	for _, a := range list {
		if a.Reverts == id {
			ids = append(ids, a.ID)
		}
	}
	return ids
}

// Two operators who order it at the same time, of two servers, get one rollback. One that was aborted is ordered anew, in the
// name of who wants it now.
func TestTwoOrdersAreOneRevert(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	nodes := []*node{newWatchingNode(t, b, "srv1"), newWatchingNode(t, b, "srv2")}
	for _, n := range nodes {
		n.start()
		n.drift(undrifted)
	}
	one := nodes[0]
	a := publish(t, one.client, map[string]string{"omflow/app.py": "v1"}, patch.Options{})
	for _, n := range nodes {
		n.report(a.ID, patch.StateApplied)
	}
	order := func(server, by, note string) (revert patch.Announcement, refused string) {
		said, err := json.Marshal(bus.RevertOrder{By: by, Note: note})
		require.NoError(t, err)
		reply, err := one.client.NC.RequestMsg(&nats.Msg{
			Subject: bus.RevertBySubject(server), Data: []byte(a.ID), Header: nats.Header{bus.HeaderRevertOrder: {string(said)}},
		}, timeout)
		require.NoError(t, err)
		if refused = reply.Header.Get("Nats-Service-Error"); refused == "" {
			require.NoError(t, json.Unmarshal(reply.Data, &revert), string(reply.Data))
		}
		return revert, refused
	}
	_, refused := order("srv1", "ann", strings.Repeat("n", 4097))
	require.Contains(t, refused, "the note has 4097 bytes; give at most 4096")
	require.Empty(t, reverts(t, one, a.ID))

	const orders = 8
	var results [orders]patch.Announcement
	var wg sync.WaitGroup
	for i := range orders {
		wg.Go(func() { results[i], _ = order(fmt.Sprint("srv", 1+i%2), fmt.Sprint("ann", i), "both at once") })
	}
	wg.Wait()
	first := reverts(t, one, a.ID)
	require.Len(t, first, 1)
	for _, revert := range results {
		require.Equal(t, [2]string{first[0], results[0].Author}, [2]string{revert.ID, revert.Author})
	}

	require.NoError(t, rollout.Abort(t.Context(), one.client.JS, first[0], "ann", "too early"))
	anew, refused := order("srv2", "bob", "now")
	require.Empty(t, refused)
	require.Equal(t, [2]string{"bob", "now"}, [2]string{anew.Author, anew.Note})
	require.Equal(t, []string{first[0], anew.ID}, reverts(t, one, a.ID))
	for _, n := range nodes {
		n.report(anew.ID, patch.StateApplied)
		require.Equal(t, "v0", n.read("omflow/app.py"))
	}
}

func TestOnlyTheLastWaysBackAreKept(t *testing.T) {
	t.Parallel()
	n := newWatchingNode(t, newBus(t), "srv1")
	n.start()
	var last string
	for i := range revertsKept + 2 {
		last = publish(t, n.client, map[string]string{"omflow/app.py": "v" + string(rune('1'+i))}, patch.Options{}).ID
		n.report(last, patch.StateApplied)
	}
	kept, err := filepath.Glob(filepath.Join(n.cfg.DataDir, revertDir, "*"))
	require.NoError(t, err)
	require.Len(t, kept, revertsKept)
	require.Equal(t, last+revertEnd, filepath.Base(kept[revertsKept-1]))
}
