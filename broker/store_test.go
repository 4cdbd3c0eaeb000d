package broker

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// A note that could not be written must not come to disk with the next one: a Booster whose `leave` failed would never start again.
func TestNoteThatIsNotSavedIsNone(t *testing.T) {
	t.Parallel()
	s, err := openStore(t.Context(), t.TempDir(), "", modeCluster)
	require.NoError(t, err)
	t.Cleanup(s.close)
	require.NoError(t, os.Rename(s.path(bootStateName), s.path("aside")))
	require.NoError(t, os.Mkdir(s.path(bootStateName), 0o700)) // nothing can be written here
	require.Error(t, s.change(func(m *bootState) { m.Left = "for b, at noon" }))
	require.Empty(t, s.bootState().Left)

	require.NoError(t, os.Remove(s.path(bootStateName)))
	require.NoError(t, s.change(func(m *bootState) { m.Witness = "host:5169" }))
	s.close()
	again, err := openStore(t.Context(), s.dir, "", modeCluster)
	require.NoError(t, err)
	t.Cleanup(again.close)
	require.Equal(t, "host:5169", again.bootState().Witness)
}
