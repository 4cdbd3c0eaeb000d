package uploads

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// minutes lets keepers look, in turn, every ten seconds of so many minutes, and returns what they saw last.
func minutes(t *testing.T, from time.Time, count int, keepers ...*Keeper) []State {
	t.Helper()
	states := make([]State, len(keepers))
	for now := from; !now.After(from.Add(time.Duration(count) * time.Minute)); now = now.Add(lookEvery) {
		for i, k := range keepers {
			marks, err := k.look(now.Add(time.Duration(i) * time.Second))
			require.NoError(t, err)
			states[i] = State{Dir: k.dir, Marks: marks}
		}
	}
	return states
}

func TestHostsOfOneDirectory(t *testing.T) {
	t.Parallel()
	dir, other := t.TempDir(), t.TempDir()
	from := time.Now()
	one, two, three := NewKeeper(dir), NewKeeper(dir), NewKeeper(other)
	first := minutes(t, from, 0, one, two, three)
	require.True(t, first[0].Shares(first[1]))
	require.False(t, first[0].Shares(first[2]), "each has made a marker of its own")
	for n := range 5 {
		states := minutes(t, from.Add(time.Duration(n)*time.Minute), 1, one, two, three)
		require.True(t, states[0].Shares(states[1]), "minute %d", n)
		require.False(t, states[1].Shares(states[2]), "minute %d", n)
	}
	// What a network file system shows a host that looks at the marker of a minute ago.
	before := State{Marks: one.marks}
	after := minutes(t, from.Add(6*time.Minute), 1, one, two)
	require.NotEqual(t, before.Marks, after[0].Marks)
	require.True(t, before.Shares(after[0]))
	require.True(t, Read(t.Context(), dir).Shares(after[0]))
}

// A home is copied for a second server, with its uploads.
func TestCopyOfADirectory(t *testing.T) {
	t.Parallel()
	dir, copied := t.TempDir(), t.TempDir()
	from := time.Now()
	minutes(t, from, 3, NewKeeper(dir))
	text, err := os.ReadFile(filepath.Join(dir, Marker))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(copied, Marker), text, 0o644))
	states := minutes(t, from.Add(4*time.Minute), 5, NewKeeper(dir), NewKeeper(copied))
	require.False(t, states[0].Shares(states[1]))
}

func TestDirectoryThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.Equal(t, State{Dir: dir}, Read(t.Context(), dir), "no marker yet")
	require.Contains(t, Read(t.Context(), filepath.Join(dir, "gone")).Problem, "no such file")
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.Contains(t, Read(t.Context(), file).Problem, "not a directory")
	require.NoError(t, os.Mkdir(filepath.Join(dir, Marker), 0o755))
	_, err := NewKeeper(dir).look(time.Now())
	require.Error(t, err)
}
