package worker_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/uploads"
	"github.com/omflow-booster/omflow-booster/worker"
)

// Three servers: two with one directory, by different paths, and one with its own.
func TestHeartbeatProvesSharedUploads(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	shared, own := t.TempDir(), t.TempDir()
	link := filepath.Join(t.TempDir(), "uploads")
	require.NoError(t, os.Symlink(shared, link))
	for name, dir := range map[string]string{"om1": shared, "om2": link, "om3": own, "om4": filepath.Join(own, "gone")} {
		s.start(newExecutor(nil), func(cfg *worker.Config) { cfg.Name, cfg.Uploads = name, dir })
	}
	seen := map[string]uploads.State{}
	s.eventually("all have looked", func() bool {
		nodes, err := bus.Nodes(t.Context(), s.c.JS)
		require.NoError(t, err)
		for _, n := range nodes {
			if n.Worker.Uploads != nil {
				seen[n.Name] = *n.Worker.Uploads
			}
		}
		return len(seen) == 4 && seen["om1"].Shares(seen["om2"]) // who looked at the same moment looks again
	})
	require.False(t, seen["om3"].Shares(seen["om1"]))
	require.Contains(t, seen["om4"].Problem, "no such file")
	require.NoDirExists(t, seen["om4"].Dir, "a directory that is not mounted is not made")
}
