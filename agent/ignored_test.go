package agent

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/tree"
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

// A look asks once whether there are Windows servers, however many names they cannot store: who is asked may not answer for seconds.
func TestLookAsksOnceForWindowsServers(t *testing.T) {
	t.Parallel()
	asked := 0
	d, err := newSifter(time.Second, func() (begun, healthy time.Time) { return begun, healthy }, func() bool { asked++; return false })
	require.NoError(t, err)
	found := tree.Reading{Files: tree.Tree{"shot 10:30.png": {SHA256: "a"}, "shot 10:31.png": {SHA256: "b"}}}
	require.Len(t, d.sift(found, treeBook{}, time.Now()).going, 2)
	d.sift(tree.Reading{Files: tree.Tree{"a.png": {SHA256: "a"}}}, treeBook{}, time.Now())
	require.Equal(t, 1, asked)
}
