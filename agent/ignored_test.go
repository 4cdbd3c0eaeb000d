package agent

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// Who names a file in AGENT_IGNORE, as our messages say, takes it out of the tree and deletes it nowhere.
func TestFileThatIsIgnoredFromNowOnIsNoDeletion(t *testing.T) {
	t.Parallel()
	n := newWatchingNode(t, newBus(t), "srv1")
	n.write("static/one.cache", "kept")
	n.start()
	before := n.drift(func(d bus.Drift) bool { return d.Baseline != "" }).Baseline
	n.stop()
	n.cfg.Ignore = []string{"*.cache"}
	n.start()
	n.write("omflow/app.py", "v1")
	a := published(t, n, 1)[0]
	require.Zero(t, a.Deletions)
	require.NotEqual(t, before, n.drift(undrifted).Baseline)
	require.FileExists(t, filepath.Join(n.cfg.Home, "static/one.cache"))
}
