package patch

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A refusal names everything that is wrong with a directory at once.
func TestDirectoryIsRefusedWithAllThatIsWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "uploads"), 0o700))
	for _, name := range []string{"good.py", "uploads/a.txt", "uploads/b.txt"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
	}
	require.NoError(t, os.Symlink("good.py", filepath.Join(dir, "link.py")))
	_, err := Build(&bytes.Buffer{}, os.DirFS(dir), Options{Signer: ann})
	require.ErrorIs(t, err, ErrInvalid)
	for _, name := range []string{"link.py", "uploads/a.txt", "uploads/b.txt"} {
		require.ErrorContains(t, err, name)
	}
}
