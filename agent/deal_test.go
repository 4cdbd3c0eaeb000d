package agent

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// ended are the reports of the end of patches.
type ended []patch.Report

func (*ended) begin(a patch.Announcement, state, reason string) patch.Report {
	return patch.Report{Patch: a.ID, State: state, Error: reason}
}

func (e *ended) settle(end patch.Report) error {
	*e = append(*e, end)
	return nil
}

func (*ended) mention(patch.Announcement, string, string) {}

// A patch of a newer program waits for the update of this one, however often it is tried, unless somebody passes it over.
func TestPatchOfANewerProgramWaitsForTheUpdate(t *testing.T) {
	t.Parallel()
	js := bustest.New(t, bustest.Layout()).Client().JS
	var reports ended
	j := &judge{turns: turns{js: js, node: "srv1", every: timeout}, reports: &reports}
	a := patch.Announcement{ID: "p1"}
	newer := fmt.Errorf("its format is 3 and this omflow-booster knows 2; %w", bus.ErrNewer)
	for range missingMax + rolledBackMax {
		settled, err := j.end(t.Context(), a, newer)
		require.False(t, settled, "%v", reports)
		require.ErrorIs(t, err, bus.ErrNewer)
		require.True(t, asksPerson(err))
	}
	require.Empty(t, reports)

	_, err := js.Publish(t.Context(), bus.KeySubject(bus.BucketRollout, bus.PlanPrefix+"p1"),
		[]byte(`{"patch":"p1","state":"aborted","by":"ann","reason":"not now"}`))
	require.NoError(t, err)
	settled, err := j.end(t.Context(), a, newer)
	require.NoError(t, err)
	require.True(t, settled)
	require.Equal(t, patch.StateSkipped, reports[0].State)
}
