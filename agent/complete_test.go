package agent

import (
	"testing"

	"github.com/rs/zerolog"
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
	_, err = newHost(nil, nil, "srv1", "mark", zerolog.Nop())
	require.EqualError(t, err, "agent: the host needs settings")
	_, err = newHost(&Config{}, nil, "srv1", "", zerolog.Nop())
	require.ErrorContains(t, err, "the mark of its processes")
	_, err = newWitness(site{}, nil, "mark", zerolog.Nop())
	require.ErrorContains(t, err, "the witness needs settings")
	_, err = newStatus("")
	require.NoError(t, err)
}
