package patch

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

// What there is to do besides the files is signed with them, and outlives a crash.
func TestHooksAreInTheJournal(t *testing.T) {
	t.Parallel()
	hooks := Hooks{Migrate: true, Pip: "requirements.txt", Restart: RestartServer}
	artifact, m := build(t, map[string]string{"requirements.txt": "x==1\n"}, Options{Hooks: hooks})
	require.Equal(t, hooks, m.Hooks)
	home, data := homeOf(t, nil), t.TempDir()
	j := open(t, home, data, nil)
	require.NoError(t, j.Stage(bytes.NewReader(artifact), DefaultLimit, Report{}))
	require.NoError(t, j.Switch())
	next := open(t, home, data, nil)
	require.Equal(t, Switched, next.Phase())
	require.Equal(t, hooks, next.Hooks())
	require.NoError(t, next.Commit())
	require.NoError(t, next.End())
	require.Equal(t, Hooks{}, next.Hooks())
	require.Equal(t, RestartServer, next.Hooks().Restarted(), "unless a patch says otherwise")
}
