package rollout

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// history is a bus with patches of some size, each with a plan and the reports of these servers.
type history struct {
	t       *testing.T
	bus     *bus.Client
	trimmer trimmer
	roster  roster
	servers []string
}

func newHistory(t *testing.T, layout bus.Layout, servers ...string) *history {
	t.Helper()
	c := bustest.New(t, layout).Client()
	return &history{t: t, bus: c, trimmer: trimmer{js: c.JS}, servers: servers}
}

// publish announces a patch, or says why that did not work.
func (h *history) publish(id string, size int) error {
	h.t.Helper()
	content := make([]byte, size)
	_, _ = rand.Read(content)
	sum := sha256.Sum256(content)
	objects, err := h.bus.JS.ObjectStore(h.t.Context(), bus.ObjectPatches)
	require.NoError(h.t, err)
	if _, err := objects.PutBytes(h.t.Context(), id, content); err != nil {
		return err
	}
	if err := Create(h.t.Context(), h.bus.JS, id, Policy{MaxUnavailable: 1}); err != nil {
		return err
	}
	a := patch.Announcement{ID: id, StoredArtifact: patch.StoredArtifact{Object: id, Size: int64(size), SHA256: hex.EncodeToString(sum[:])}}
	if a, err = patch.Announce(h.t.Context(), h.bus.JS, a); err != nil {
		return err
	}
	for _, node := range h.servers {
		if err := patch.PutReport(h.t.Context(), h.bus.JS,
			patch.Report{Patch: id, Node: node, Seq: a.Seq, State: patch.StateApplied}); err != nil {
			return err
		}
	}
	return nil
}

// at is a living server that is through with everything up to seq.
func (h *history) at(node string, seq uint64) Member {
	h.t.Helper()
	stream, err := h.bus.JS.Stream(h.t.Context(), bus.StreamPatch)
	require.NoError(h.t, err)
	return Member{Name: node, Seq: seq, Stream: stream.CachedInfo().Created.Format(time.RFC3339Nano), At: time.Now()}
}

func (h *history) trim(members ...Member) {
	h.t.Helper()
	require.NoError(h.t, h.roster.update(h.t.Context(), h.bus.JS, members, time.Now()))
	_, err := h.trimmer.trim(h.t.Context(), h.roster, members, func(string) bool { return false })
	require.NoError(h.t, err)
}

// left is how many announcements, artifacts, plans and reports there are.
func (h *history) left() (counts [4]int) {
	h.t.Helper()
	list, err := patch.List(h.t.Context(), h.bus.JS)
	require.NoError(h.t, err)
	artifacts, err := patch.Stored(h.t.Context(), h.bus.JS)
	require.NoError(h.t, err)
	plans, err := patches(h.t.Context(), h.bus.JS)
	require.NoError(h.t, err)
	reports, err := patch.Reports(h.t.Context(), h.bus.JS)
	require.NoError(h.t, err)
	counts = [4]int{len(list), len(artifacts), len(plans), 0}
	for _, r := range reports {
		counts[3] += len(r)
	}
	return counts
}

// What every known server is through with goes, but for the last ten; what one that is away has not settled stays.
func TestSettledPatchesGo(t *testing.T) {
	t.Parallel()
	h := newHistory(t, bustest.Layout(), "a", "b")
	for i := range 13 {
		require.NoError(t, h.publish(fmt.Sprintf("p%02d", i), 1000))
	}
	h.trim(h.at("a", 13), h.at("b", 1))
	require.Equal(t, [4]int{12, 12, 12, 24}, h.left(), "b has the first one only")
	h.trim(h.at("a", 13)) // b is away
	require.Equal(t, [4]int{12, 12, 12, 24}, h.left())
	through, err := TrimmedThrough(t.Context(), h.bus.JS)
	require.NoError(t, err)
	require.EqualValues(t, 1, through)
	require.NoError(t, Forget(t.Context(), h.bus.JS, "b"))
	h.roster = roster{} // another coordinator
	h.trim(h.at("a", 13))
	require.Equal(t, [4]int{10, 10, 10, 20}, h.left())
	list, err := patch.List(t.Context(), h.bus.JS)
	require.NoError(t, err)
	require.Equal(t, "p03", list[0].ID)
}

func TestPatchThatSomebodyIsAtStays(t *testing.T) {
	t.Parallel()
	h := newHistory(t, bustest.Layout(), "a")
	for i := range 12 {
		require.NoError(t, h.publish(fmt.Sprintf("p%02d", i), 1000))
	}
	a := []Member{h.at("a", 12)}
	require.NoError(t, h.roster.update(t.Context(), h.bus.JS, a, time.Now()))
	_, err := h.trimmer.trim(t.Context(), h.roster, a, func(id string) bool { return id == "p01" })
	require.NoError(t, err)
	require.Equal(t, 11, h.left()[0])
}

// A store of 256 MB takes one patch after the other, whatever their size, also while a server is away for ever and
// another one is stuck.
func TestFullStoresNeverStopPatching(t *testing.T) {
	t.Parallel()
	layout := bustest.Layout()
	layout.StoreBytes = 32 << 20 // the same shares
	h := newHistory(t, layout, "a")
	h.trim(h.at("away", 0))
	for i := range uint64(12) {
		err := h.publish(fmt.Sprintf("p%02d", i), 2<<20)
		require.NoError(t, err, "patch %d", i)
		h.trim(h.at("a", i+1), h.at("stuck", 0))
	}
	require.Less(t, h.left()[0], 6)
}

// A bucket of reports that is full empties by itself.
func TestFullBucketOfReportsIsEmptied(t *testing.T) {
	t.Parallel()
	layout := bustest.Layout()
	layout.StoreBytes = 4 << 20 // 80 kB for ROLLOUT
	var servers []string
	for i := range 40 {
		servers = append(servers, fmt.Sprintf("srv%02d", i))
	}
	h := newHistory(t, layout, servers...)
	h.trim(h.at("srv00", 0)) // the others are known by their reports alone, as those of a former release are not
	full := false
	for i := range uint64(12) {
		err := h.publish(fmt.Sprintf("p%02d", i), 10)
		if full = full || bus.IsFull(err); err != nil {
			require.True(t, full, err)
			h.trim(h.at("srv00", i))
			require.NoError(t, h.publish(fmt.Sprintf("q%02d", i), 10))
		}
	}
	require.True(t, full, "the bucket was never full, so nothing was tried")
}

// What nobody announces does not stay for ever.
func TestStraysAreSwept(t *testing.T) {
	t.Parallel()
	h := newHistory(t, bustest.Layout(), "a")
	require.NoError(t, h.publish("p1", 10))
	objects, err := h.bus.JS.ObjectStore(t.Context(), bus.ObjectPatches)
	require.NoError(t, err)
	_, err = objects.PutString(t.Context(), "never-announced", "x")
	require.NoError(t, err)
	require.NoError(t, Pause(t.Context(), h.bus.JS, "p0", "ann", ""))
	require.NoError(t, patch.PutReport(context.Background(), h.bus.JS, patch.Report{Patch: "p0", Node: "a", State: patch.StateApplied}))
	for range strayReport {
		h.trim(h.at("a", 1))
	}
	require.Equal(t, [4]int{1, 2, 2, 1}, h.left())
	for range strayObject {
		h.trim(h.at("a", 1))
	}
	require.Equal(t, [4]int{1, 1, 1, 1}, h.left())
}

// A coordinator that has just begun has not heard all servers: it takes none of them for away, and removes nothing.
func TestNothingIsTrimmedBeforeAllWereHeard(t *testing.T) {
	t.Parallel()
	h := newHistory(t, bustest.Layout(), "a")
	for i := range 13 {
		require.NoError(t, h.publish(fmt.Sprintf("p%02d", i), 1000))
	}
	now := time.Now()
	c := &Coordinator{JS: h.bus.JS, Exclusive: func() bool { return true }, began: now}
	require.NoError(t, c.roster.update(t.Context(), c.JS, []Member{h.at("a", 13)}, now))
	for _, full := range []bool{false, true} {
		require.NoError(t, c.trim(t.Context(), now.Add(silentFor-1), full))
		require.Equal(t, 13, h.left()[0])
	}
	require.NoError(t, c.trim(t.Context(), now.Add(silentFor), false))
	require.Equal(t, patchesKept, h.left()[0])
}
