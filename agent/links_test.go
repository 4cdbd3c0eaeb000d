package agent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// A module becomes a package on one server, and later a module again.
func TestFileThatBecomesADirectoryReachesTheOthers(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	nodes := []*node{newWatchingNode(t, b, "srv1"), newWatchingNode(t, b, "srv2")}
	for _, n := range nodes {
		n.write("omflow/views", "a module")
		n.start()
		n.drift(undrifted)
	}
	one := nodes[0]
	views := func(n *node) string { return filepath.Join(n.cfg.Home, "omflow/views") }
	next := filepath.Join(one.cfg.Home, "omflow/.booster-next") // no part of the home
	require.NoError(t, os.Mkdir(next, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(next, "__init__.py"), []byte("a package"), 0o644))
	require.NoError(t, os.Remove(views(one)))
	require.NoError(t, os.Rename(next, views(one)))
	first := published(t, one, 1)[0]
	for _, n := range nodes {
		n.report(first.ID, patch.StateApplied)
		require.Equal(t, "a package", n.read("omflow/views/__init__.py"))
	}
	require.Equal(t, one.drift(undrifted).Baseline, nodes[1].drift(undrifted).Baseline)

	require.NoError(t, os.WriteFile(next, []byte("a module again"), 0o644))
	require.NoError(t, os.RemoveAll(views(one)))
	require.NoError(t, os.Rename(next, views(one)))
	var second patch.Announcement
	one.eventually(func() bool { // a look in between may have seen the directory gone, and the file not there yet
		list, err := patch.List(t.Context(), one.client.JS)
		second = list[len(list)-1]
		return err == nil && len(list) > 1 && second.Files == 1
	}, "published")
	for _, n := range nodes {
		n.report(second.ID, patch.StateApplied)
		require.Equal(t, "a module again", n.read("omflow/views"))
	}
	require.Equal(t, one.drift(undrifted).Baseline, nodes[1].drift(undrifted).Baseline)
}

// A file that somebody has put where a patch needs a directory: he may say that it stays.
func TestOwnFileInTheWayOfADirectory(t *testing.T) {
	t.Parallel()
	n := newWatchingNode(t, newBus(t), "srv1")
	n.cfg.Watch = watchReport
	n.start()
	n.drift(undrifted)
	n.write("omflow/views", "by hand")
	n.drift(func(d bus.Drift) bool { return d.Total == 1 })
	a := publish(t, n.client, map[string]string{"omflow/views/__init__.py": "a package"}, patch.Options{})
	require.Contains(t, n.report(a.ID, patch.StateConflict).Error, "omflow/views was changed here")
	require.NoError(t, os.Remove(filepath.Join(n.cfg.Home, "omflow/views")))
	n.report(a.ID, patch.StateApplied)
	require.Equal(t, "a package", n.read("omflow/views/__init__.py"))
}

// A directory that is moved to a bigger disk and linked back is no deletion. A patch for what is in it fails on that server,
// and keeps no other one waiting.
func TestDirectoryThatIsMovedAwayAndLinkedBack(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	one, two := newWatchingNode(t, b, "srv1"), newWatchingNode(t, b, "srv2")
	for _, n := range []*node{one, two} {
		n.write("static/a.png", "a")
		n.write("static/deep/b.png", "b")
		n.start()
		n.drift(undrifted)
	}
	elsewhere := filepath.Join(t.TempDir(), "static")
	// no look may see it half way
	require.NoError(t, os.Rename(filepath.Join(one.cfg.Home, "static"), filepath.Join(one.cfg.Home, ".booster-moving")))
	require.NoError(t, os.Symlink(elsewhere, filepath.Join(one.cfg.Home, "static")))
	require.NoError(t, os.Rename(filepath.Join(one.cfg.Home, ".booster-moving"), elsewhere))
	d := one.drift(func(d bus.Drift) bool { return d.StaysTotal == 1 })
	require.Zero(t, d.Total)
	require.Equal(t, "static", d.Stays[0].Path)

	inside := publish(t, one.client, map[string]string{"static/a.png": "A"}, patch.Options{Deletions: []string{"static/deep/b.png"}})
	require.Contains(t, one.report(inside.ID, patch.StateFailed).Error, "static is a symbolic link on this server")
	two.report(inside.ID, patch.StateApplied)
	next := publish(t, one.client, map[string]string{"omflow/app.py": "v1"}, patch.Options{})
	for _, n := range []*node{one, two} {
		n.report(next.ID, patch.StateApplied)
		require.Equal(t, "v1", n.read("omflow/app.py"))
	}
	content, err := os.ReadFile(filepath.Join(elsewhere, "a.png"))
	require.NoError(t, err)
	require.Equal(t, "a", string(content))
	require.Equal(t, "A", two.read("static/a.png"))
	published(t, one, 2)
}
