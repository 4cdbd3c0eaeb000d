package patch

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
)

func TestReportsOfServersWithSimilarNamesAreKeptApart(t *testing.T) {
	t.Parallel()
	js := bustest.New(t, bustest.Layout()).Client().JS
	for node, state := range map[string]string{
		"台北": StateApplied, "高雄": StateFailed, "om1.example.com": StateRolledBack, "om1_example_com": StateSkipped,
	} {
		require.NoError(t, PutReport(t.Context(), js, Report{Patch: "p1", Node: node, State: state}))
	}
	all, err := Reports(t.Context(), js)
	require.NoError(t, err)
	require.Len(t, all["p1"], 4)
	for _, r := range all["p1"] {
		one, revision, err := ReadReport(t.Context(), js, "p1", r.Node)
		require.NoError(t, err)
		require.Equal(t, r, one)
		require.Positive(t, revision)
	}
}

// What an older program has reported stays, under a key that the report of another node may have replaced.
func TestReportOfAnOlderProgramIsRead(t *testing.T) {
	t.Parallel()
	js := bustest.New(t, bustest.Layout()).Client().JS
	old := Report{Patch: "p1", Node: "om1.example.com", State: StateFailed}
	data, err := json.Marshal(old)
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), "$KV."+bus.BucketRollout+".p1.om1_example_com", data)
	require.NoError(t, err)
	all, err := Reports(t.Context(), js)
	require.NoError(t, err)
	require.Equal(t, []Report{old}, all["p1"])
	one, _, err := ReadReport(t.Context(), js, "p1", "om1.example.com")
	require.NoError(t, err)
	require.Equal(t, old, one)
	none, revision, err := ReadReport(t.Context(), js, "p1", "om1_example_com")
	require.NoError(t, err)
	require.Zero(t, none)
	require.Zero(t, revision)

	now := old
	now.State = StateApplied
	require.NoError(t, PutReport(t.Context(), js, now))
	all, err = Reports(t.Context(), js)
	require.NoError(t, err)
	require.Equal(t, []Report{now}, all["p1"], "the last word counts")
}
