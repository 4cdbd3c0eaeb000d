package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

const newer, older = "version=1.1.5.0\n", "version=1.1.4.0\n"

// pairOf is two servers that publish what is changed on them.
func pairOf(t *testing.T, b *bustest.Bus, prepare func(n *node)) (one, two *node) {
	t.Helper()
	one, two = newWatchingNode(t, b, "srv1"), newWatchingNode(t, b, "srv2")
	for _, n := range []*node{one, two} {
		n.write(patch.VersionFile, newer)
		prepare(n)
		n.start()
		n.drift(undrifted)
	}
	return one, two
}

// release orders what is held back to be published, and returns what the agent has against it.
func (n *node) release(digest string) string {
	n.t.Helper()
	reply, err := n.client.NC.Request(bus.ReleaseSubject(n.cfg.Name), []byte(digest), timeout)
	require.NoError(n.t, err)
	return reply.Header.Get(micro.ErrorHeader)
}

func (n *node) order() {
	n.t.Helper()
	_, err := n.client.NC.Request(bus.RepairSubject(n.cfg.Name), nil, timeout)
	require.NoError(n.t, err)
}

// Older files that are copied over one server are not published as if they were news, are shown, and taken back on demand.
func TestOlderFilesCopiedOverOneServer(t *testing.T) {
	t.Parallel()
	one, two := pairOf(t, newBus(t), func(n *node) { n.write("omflow/app.py", "v5") })
	one.write(patch.VersionFile, older)
	one.write("omflow/app.py", "v4")
	d := one.drift(func(d bus.Drift) bool { return d.Total == 2 && d.Held != "" })
	require.Equal(t, "its files are of version 1.1.4.0, and its last patch, like the other servers, has 1.1.5.0", d.Held)
	bus.Sleep(t.Context(), 4*one.cfg.WatchQuiet)
	published(t, one, 0)
	one.order()
	one.drift(func(d bus.Drift) bool { return d.Total == 0 && !d.Repairing })
	require.Equal(t, "v5", one.read("omflow/app.py"))
	require.Equal(t, newer, one.read(patch.VersionFile))

	// Whoever means it brings every server back, and can take that back, too.
	two.write("omflow/app.py", "v4")
	two.write(patch.VersionFile, older)
	d = two.drift(func(d bus.Drift) bool { return d.Total == 2 && d.Held != "" })
	require.Contains(t, two.release("other"), "changed again")
	require.Empty(t, two.release(d.Digest))
	a := published(t, one, 1)[0]
	for _, n := range []*node{one, two} {
		n.report(a.ID, patch.StateApplied)
		n.drift(undrifted)
		require.Equal(t, "v4", n.read("omflow/app.py"))
	}
	require.Contains(t, two.release(d.Digest), "nothing is held back")
	var revert []byte
	one.eventually(func() bool {
		reply, err := one.client.NC.Request(bus.RevertBySubject("srv1"), []byte(a.ID), timeout)
		revert = reply.Data
		return err == nil && reply.Header.Get(micro.ErrorHeader) == ""
	}, "taken back")
	require.NotEmpty(t, revert)
	back := published(t, one, 2)[1]
	for _, n := range []*node{one, two} {
		n.report(back.ID, patch.StateApplied)
		require.Equal(t, "v5", n.read("omflow/app.py"))
	}
}

// A server that has passed something over is shown by its baseline, and can be made like the others although nothing was
// changed on it by hand.
func TestServerThatIsDifferentIsMadeLikeTheOthers(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	one, _ := pairOf(t, b, func(n *node) {
		n.write("omflow/app.py", "right")
		if n.cfg.Name == "srv1" {
			n.write("omflow/app.py", "wrong")
			n.write("omflow/more.py", "nobody else has it")
		}
	})
	three := newWatchingNode(t, b, "srv3")
	three.write(patch.VersionFile, newer)
	three.write("omflow/app.py", "right")
	three.start()
	right := three.drift(undrifted).Baseline
	require.NotEqual(t, right, one.drift(undrifted).Baseline)
	one.order()
	one.drift(func(d bus.Drift) bool { return d.Baseline == right && d.Total == 0 && !d.Repairing })
	require.Equal(t, "right", one.read("omflow/app.py"))
	require.NoFileExists(t, filepath.Join(one.cfg.Home, "omflow/more.py"))
	three.order() // is right already
	three.drift(func(d bus.Drift) bool { return d.Repair == "" && !d.Repairing })
	require.Equal(t, 1, three.count("server-start"))
}

// A version that has half of the files is held back, says so, and passes when somebody means it; only what has changed travels.
func TestMassDeletionPassesByOrder(t *testing.T) {
	t.Parallel()
	one, two := pairOf(t, newBus(t), func(n *node) {
		for i := range 60 {
			n.write(fmt.Sprintf("omflow/f%d.py", i), "x")
		}
	})
	for i := range 30 {
		require.NoError(t, os.Remove(filepath.Join(one.cfg.Home, fmt.Sprintf("omflow/f%d.py", i))))
	}
	one.write("omflow/app.py", "v1")
	d := one.drift(func(d bus.Drift) bool { return d.Total == 31 })
	require.Equal(t, "30 of 62 files are missing, which looks like a lost disk", d.Held)
	require.Empty(t, one.release(d.Digest))
	a := published(t, one, 1)[0]
	require.Equal(t, [2]int{1, 30}, [2]int{a.Files, a.Deletions})
	two.report(a.ID, patch.StateApplied)
	require.NoFileExists(t, filepath.Join(two.cfg.Home, "omflow/f1.py"))
	require.Equal(t, one.drift(undrifted).Baseline, two.drift(undrifted).Baseline)
}
