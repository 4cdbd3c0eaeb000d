package agent

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// newPatchedNode is a node whose home notices when it is served between two versions.
func newPatchedNode(t *testing.T, b *bustest.Bus) *node {
	t.Helper()
	n := newNode(t, b, "srv1")
	n.cfg.HealthTimeout = 5 * time.Second
	for _, name := range []string{"first", "second", "gone"} {
		n.write("omflow/"+name+".py", "0")
	}
	return n
}

// nextVersion are the files of the patch that goes with it; it deletes omflow/gone.py.
func nextVersion(more ...string) (map[string]string, patch.Options) {
	files := map[string]string{"omflow/app.py": "v1", "omflow/first.py": "1", "omflow/second.py": "1", "omflow/new/x.py": "x"}
	for _, name := range more {
		files[name] = ""
	}
	return files, patch.Options{Deletions: []string{"omflow/gone.py"}}
}

// isWhole looks for everything that a patch may leave behind, and returns which version the home has.
func (n *node) isWhole() (version string) {
	n.t.Helper()
	require.Zero(n.t, n.count("half-patched"), "no server ever ran between two versions")
	version = n.read("omflow/app.py")
	want := map[string]string{
		"v0": "omflow/app.py omflow/first.py omflow/gone.py omflow/second.py omflow/settings.py",
		"v1": "omflow/app.py omflow/first.py omflow/new/x.py omflow/second.py omflow/settings.py",
	}[version]
	var names []string
	require.NoError(n.t, filepath.WalkDir(n.cfg.Home, func(name string, e os.DirEntry, err error) error {
		if err == nil && (!e.IsDir() || e.Name() == "new" && version == "v0") {
			name, err = filepath.Rel(n.cfg.Home, name)
			names = append(names, name)
		}
		return err
	}))
	require.Equal(n.t, want, strings.Join(names, " "))
	require.Equal(n.t, strings.TrimPrefix(version, "v"), n.read("omflow/first.py"))
	require.NoFileExists(n.t, filepath.Join(n.cfg.DataDir, "patch-journal.json"))
	return version
}

// served are the versions that a server was started with, in order.
func (n *node) served() (list []string) {
	for _, e := range n.events() {
		if e.what == "server-start" {
			list = append(list, e.detail)
		}
	}
	return list
}

func TestServerThatDoesNotSurviveAPatchGetsItsOldVersionBack(t *testing.T) {
	t.Parallel()
	n := newPatchedNode(t, newBus(t))
	n.start()
	files, o := nextVersion("broken")
	bad := publish(t, n.client, files, o)
	r := n.report(bad.ID, patch.StateRolledBack)
	require.Contains(t, r.Error, "the OMFLOW Server was not healthy within 5s")
	require.Contains(t, r.Error, "exit status 3")
	n.state(func(s bus.AgentState) bool {
		return s.Server == "running" && s.Worker == "running" && s.PatchState == "rolled back: "+r.Error
	})
	require.Equal(t, "v0", n.isWhole())
	require.Equal(t, []string{"v0", "v0"}, n.served())

	files, o = nextVersion()
	good := publish(t, n.client, files, o)
	n.report(good.ID, patch.StateApplied)
	n.state(func(s bus.AgentState) bool { return s.Server == "running" && s.PatchState == "current" })
	require.Equal(t, "v1", n.isWhole())
	require.Equal(t, []string{"v0", "v0", "v1"}, n.served())
}

// A server that is not healthy in any version is told from one that only the patch has hurt.
func TestServerThatIsNotHealthyWithItsOldVersionEither(t *testing.T) {
	t.Parallel()
	n := newPatchedNode(t, newBus(t))
	n.cfg.HealthURL = "http://" + freeAddress(t)
	n.cfg.HealthTimeout = time.Second
	n.start()
	n.eventually(func() bool { return n.count("worker-start") == 1 }, "worker runs")
	files, o := nextVersion()
	a := publish(t, n.client, files, o)
	require.Contains(t, n.report(a.ID, patch.StateRolledBack).Error, "it has its old version back, but the OMFLOW Server was not healthy")
	require.Equal(t, "v0", n.isWhole())
	n.eventually(func() bool { return n.count("worker-start") == 2 }, "steps need no healthy server")
}

// brokenDisk fails at one operation with one file, as often as it is told.
type brokenDisk struct {
	op   string
	file string
	left atomic.Int32
}

func (d *brokenDisk) before(op, name string) error {
	if op == d.op && strings.HasSuffix(name, d.file) && d.left.Add(-1) >= 0 {
		return syscall.EIO
	}
	return nil
}

// A file that cannot be put into place costs a short outage, not the server; when it goes on, the patch is given up.
func TestPatchThatCannotBePutIntoPlace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		failures int32
		ends     string
		served   []string
	}{
		"once":     {1, patch.StateApplied, []string{"v0", "v0", "v1"}},
		"for good": {1000, patch.StateRolledBack, []string{"v0", "v0", "v0", "v0"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newPatchedNode(t, newBus(t))
			n.cfg.HealthTimeout = timeout
			broken := &brokenDisk{op: "switch rename", file: "second.py"}
			broken.left.Store(c.failures)
			n.beforeDisk = broken.before
			n.start()
			files, o := nextVersion()
			a := publish(t, n.client, files, o)
			r := n.report(a.ID, c.ends)
			if c.ends == patch.StateRolledBack {
				require.Contains(t, r.Error, "3 tries failed")
				require.Contains(t, r.Error, "switch rename omflow/second.py: "+syscall.EIO.Error())
			}
			n.state(func(s bus.AgentState) bool { return s.Server == "running" && s.Worker == "running" })
			require.Equal(t, c.served, n.served())
			require.Equal(t, c.served[len(c.served)-1], n.isWhole())
		})
	}
}

// A home between two versions is not served, also not by the next life of the agent; once the disk is well again it is restored.
func TestOldVersionThatCannotBeRestored(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	n := newPatchedNode(t, b)
	broken := &brokenDisk{op: "restore rename", file: "second.py"}
	broken.left.Store(1 << 30)
	n.beforeDisk = broken.before
	n.start()
	n.eventually(func() bool { return n.count("worker-start") == 1 }, "worker runs")
	files, o := nextVersion("broken")
	a := publish(t, n.client, files, o)
	stays := func(s bus.AgentState) bool {
		return s.Server == "stopped" && strings.HasPrefix(s.PatchState,
			"failed: the server stays stopped until its old version is restored: restore rename omflow/second.py")
	}
	n.state(stays)
	n.stop()
	n.start()
	n.state(stays)
	require.Equal(t, []string{"v0"}, n.served())

	b.Stop() // it needs no Booster
	broken.left.Store(0)
	n.eventually(func() bool { return n.count("worker-start") == 2 }, "server and worker run again")
	b.Start()
	r := n.report(a.ID, patch.StateRolledBack)
	require.Contains(t, r.Error, "exit status 3", "the reason is remembered")
	require.Equal(t, "v0", n.isWhole())
	require.Equal(t, []string{"v0", "v0"}, n.served())
}

// An agent that is stopped while a patch has to prove itself goes on with that when it is started again, Booster or not.
func TestProofIsTakenUpByTheNextLife(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string][]string{"healthy": nil, "not healthy": {"broken"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBus(t)
			n := newPatchedNode(t, b)
			if broken == nil {
				n.cfg.HealthTimeout = timeout
			}
			switched := make(chan struct{})
			n.beforeDisk = func(op, _ string) error {
				switch op {
				case "journal switched sync directory":
					close(switched)
				case "journal proven create", "journal restoring create":
					return syscall.EIO
				}
				return nil
			}
			n.start()
			files, o := nextVersion(broken...)
			a := publish(t, n.client, files, o)
			<-switched
			n.stop()
			b.Stop()
			n.beforeDisk = nil
			workers := n.count("worker-start")
			n.start()
			n.eventually(func() bool { return n.count("worker-start") == workers+1 }, "worker runs")
			version := n.isWhole()
			b.Start()
			if broken == nil {
				require.Equal(t, "v1", version)
				require.Equal(t, 4, n.report(a.ID, patch.StateApplied).Files)
			} else {
				require.Equal(t, "v0", version)
				require.Contains(t, n.report(a.ID, patch.StateRolledBack).Error, "exit status 3")
			}
		})
	}
}
