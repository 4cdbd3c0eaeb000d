package agent

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A part that its maker has left something out of is not made, and says what.
func TestPartWithoutWhatItNeedsIsNotMade(t *testing.T) {
	t.Parallel()
	_, err := newJudge(judge{})
	require.EqualError(t, err, "agent: judge.home is not set")
	_, err = newSifter(0, nil, func() bool { return false })
	require.EqualError(t, err, "agent: sifter.started is not set")
	_, err = newDonor(nil, nil)
	require.EqualError(t, err, "agent: donor.asked is not set")
	_, err = newStatus("")
	require.NoError(t, err)
}
