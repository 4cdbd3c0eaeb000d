package preflight

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// python makes a program that plays a Python.
func python(t *testing.T, script string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "python")
	require.NoError(t, os.WriteFile(name, []byte("#!/bin/sh\n"+script+"\n"), 0o700))
	return name
}

func TestPython(t *testing.T) {
	t.Parallel()
	for says, want := range map[string]bool{
		"Python 3.7.7": true, "Python 3.8.0rc1": true, "Python 3.12.1": true, "Python 4.0.0": true,
		"Python 3.7.6": false, "Python 3.6.9": false, "Python 2.7.18": false,
	} {
		version, err := Python(t.Context(), python(t, "echo '"+says+"' >&2"), t.TempDir())
		require.NoError(t, err, says)
		require.Equal(t, want, version.Enough(), says)
		require.Contains(t, says, version.String())
	}
	require.Contains(t, PythonNeeded, oldestPython.String())
	for script, says := range map[string]string{"echo snake; echo 2": `answered "snake"`, "exit 3": "exit status 3"} {
		_, err := Python(t.Context(), python(t, script), "")
		require.ErrorContains(t, err, says)
	}
	_, err := Python(t.Context(), "/no/such/python", "")
	require.ErrorIs(t, err, os.ErrNotExist)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = Python(ctx, python(t, "exec sleep 60"), "")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	free, total, err := Space(t.Context(), dir)
	require.NoError(t, err)
	require.Positive(t, free)
	require.GreaterOrEqual(t, total, free)
	require.NoError(t, Writable(dir))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
	require.Error(t, Writable(filepath.Join(dir, "missing")))
	_, _, err = Space(t.Context(), filepath.Join(dir, "missing"))
	require.Error(t, err)
}

func TestPort(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	require.ErrorContains(t, Port(t.Context(), port), "in use")
	require.NoError(t, l.Close())
	require.NoError(t, Port(t.Context(), port))
	require.True(t, Here(t.Context(), "127.0.0.1"))
	require.True(t, Here(t.Context(), "localhost"))
	require.False(t, Here(t.Context(), "192.0.2.1"), "of nobody (RFC 5737)")
	require.False(t, Here(t.Context(), ""))
}
