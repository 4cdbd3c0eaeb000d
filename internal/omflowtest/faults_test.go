package omflowtest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFaultsHitTheirShareAndAreTheSameEachTime(t *testing.T) {
	t.Parallel()
	f, other := Faults{Seed: 1, Fail: 0.2}, Faults{Seed: 2, Fail: 0.2}
	hits, differ, both := 0, 0, 0
	for row := int64(1); row <= 10_000; row++ {
		require.Equal(t, f.Fails(row, 1), f.Fails(row, 1))
		if f.Fails(row, 1) {
			hits++
			if f.Fails(row, 2) {
				both++
			}
		}
		if f.Fails(row, 1) != other.Fails(row, 1) {
			differ++
		}
		require.False(t, Faults{Seed: 1}.Fails(row, 1))
		require.True(t, Faults{Seed: 1, Fail: 1}.Fails(row, 1))
		require.False(t, f.CrashesInStep(row, 1))
	}
	require.InDelta(t, 2_000, hits, 200)
	require.InDelta(t, 400, both, 100, "a second try fails independently of the first")
	require.InDelta(t, 3_200, differ, 300)
	require.ErrorContains(t, Faults{Slow: 2}.Validate(), "OMFLOWTEST_SLOW")
}
