package broker

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
)

// What cannot be looked at must not be taken for "there is nothing": the old store is removed then.
func TestStoreThatCannotBeReadIsNotEmpty(t *testing.T) {
	t.Parallel()
	b := newMove(&store{dir: t.TempDir()}, timeout, zerolog.Nop(), nil)
	require.NoError(t, b.takeSingle(t.Context()), "it never served")
	require.NoError(t, os.WriteFile(b.store.path(storeName), nil, 0o600))
	require.Error(t, b.takeSingle(t.Context()), "not a directory")

	s, err := openStore(t.Context(), t.TempDir(), "", modeStandalone)
	require.NoError(t, err)
	t.Cleanup(s.close)
	require.NoError(t, s.advance(modeCluster, growthRestoring))
	require.False(t, s.brings())
	require.NoError(t, os.Mkdir(s.path(growthDir), 0o700))
	require.True(t, s.brings())
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	s.dir = file // a path below a file is not absent
	require.True(t, s.brings())
	require.Error(t, s.setMemberAside())
	require.Error(t, s.abandonGrowth())
}
