package bus_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
)

func TestCordonHitsTheNodeThatWasNamed(t *testing.T) {
	t.Parallel()
	c := bustest.New(t, bustest.Layout()).Client()
	cordoned := func(node string) bool {
		_, on, err := bus.ReadCordon(t.Context(), c.JS, node)
		require.NoError(t, err)
		return on
	}
	for _, names := range [][2]string{{"台北", "高雄"}, {"om1.example.com", "om1_example_com"}, {"om2_example_com", "om2.example.com"}} {
		meant, other := names[0], names[1]
		require.NoError(t, bus.SetCordon(t.Context(), c.JS, meant, bus.Cordon{By: "me"}))
		require.True(t, cordoned(meant))
		require.False(t, cordoned(other), "%s for %s", other, meant)
		require.NoError(t, bus.LiftCordon(t.Context(), c.JS, other))
		require.True(t, cordoned(meant), "lifted with %s", other)
		require.NoError(t, bus.LiftCordon(t.Context(), c.JS, meant))
		require.False(t, cordoned(meant))
	}
}

func TestCordonOfAnOlderProgramHolds(t *testing.T) {
	t.Parallel()
	c := bustest.New(t, bustest.Layout()).Client()
	kv, err := c.JS.KeyValue(t.Context(), bus.BucketControl)
	require.NoError(t, err)
	_, err = kv.PutString(t.Context(), "cordon.om1_example_com", `{"by":"me","note":"disk"}`)
	require.NoError(t, err)
	for _, node := range []string{"om1.example.com", "om1_example_com"} { // nobody knows which of the two was meant
		order, on, err := bus.ReadCordon(t.Context(), c.JS, node)
		require.NoError(t, err)
		require.True(t, on, node)
		require.Equal(t, "disk", order.Note)
	}
	require.NoError(t, bus.LiftCordon(t.Context(), c.JS, "om1.example.com"))
	_, on, err := bus.ReadCordon(t.Context(), c.JS, "om1.example.com")
	require.NoError(t, err)
	require.False(t, on)
}
