package broker

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Windows lets nobody write to a file that is locked, its owner included, and nobody else read it: the lock file stays empty,
// and who holds it is noted beside it.
func TestLockFileIsNotWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := openStore(t.Context(), dir, "booster-1", "")
	require.NoError(t, err)
	data, err := os.ReadFile(filepath.Join(dir, lockName))
	require.NoError(t, err)
	require.Empty(t, data)
	_, err = openStore(t.Context(), dir, "booster-1", "")
	require.ErrorContains(t, err, fmt.Sprintf("in use by another Booster (process %d)", os.Getpid()))
	first.close()
	again, err := openStore(t.Context(), dir, "booster-1", "")
	require.NoError(t, err)
	again.close()
}
