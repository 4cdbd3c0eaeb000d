package audit

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Copies of a member whose release tells contents apart in another way are not compared: everything would differ, and be
// rebuilt. A former release, which says no version, is of the first one.
func TestCopiesOfAnotherAuditAreNotCompared(t *testing.T) {
	t.Parallel()
	group := []string{"a", "b", "w"}
	a := newAuditor(t, &fakeBooster{})
	state := func(understands int, life string) replicaState {
		return replicaState{Version: understands, Life: life, Streams: map[string]replicaCopy{"WORK": {Applied: 7}}}
	}
	states := map[string]replicaState{"a": state(version, "1"), "b": state(0, "1"), "w": state(version, "1")}
	require.True(t, a.due("WORK", group, states))
	states["b"] = state(version+1, "1")
	require.False(t, a.due("WORK", group, states))
}
