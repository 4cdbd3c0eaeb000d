package rollout

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
)

// A plan keeps the fields of a newer program when a program of this release rewrites it.
func TestPlanKeepsWhatIsNotKnown(t *testing.T) {
	t.Parallel()
	s := &site{t: t, bus: bustest.New(t, bustest.Layout())}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel() // before the cleanups, which wait for what it ends
	js := s.bus.Client().JS
	_, err := js.Publish(ctx, planSubject("p1"), []byte(
		`{"patch":"p1","state":"running","max_unavailable":1,"waves":[1,2],"grants":{"n9":{"outcome":"applied","seconds":3}},
			"migration":{"kind":"x"}}`))
	require.NoError(t, err)
	s.coordinate(ctx, func() bool { return true })
	<-s.node(ctx, "n0", applied, "p1")
	require.NoError(t, Pause(ctx, js, "p1", "ann", "why not"))
	value, _, err := bus.ReadKey(ctx, js, bus.BucketRollout, bus.PlanPrefix+"p1")
	require.NoError(t, err)
	for _, kept := range []string{`"waves":[1,2]`, `"seconds":3`, `"kind":"x"`, `"n0"`, `"paused"`} {
		require.Contains(t, string(value), kept)
	}
}

// A plan of a newer format is left as it is, and holds up no other one.
func TestNewerPlanWaits(t *testing.T) {
	t.Parallel()
	s := &site{t: t, bus: bustest.New(t, bustest.Layout())}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel() // before the cleanups, which wait for what it ends
	js := s.bus.Client().JS
	const newer = `{"format":2,"patch":"p1","state":"running","max_unavailable":1}`
	_, err := js.Publish(ctx, planSubject("p1"), []byte(newer))
	require.NoError(t, err)
	s.coordinate(ctx, func() bool { return true })
	said := make(chan string, 100)
	waits := make(chan struct{})
	go func() {
		defer close(waits)
		_ = Turn{JS: js, Patch: "p1", Node: "n1", Every: timeout}.Wait(ctx, func(why string) { said <- why })
	}()
	require.True(t, strings.HasSuffix(<-said, "has format 2 and this omflow-booster knows 1; "+bus.ErrNewer.Error()))
	<-s.node(ctx, "n0", applied, "p2")
	require.ErrorIs(t, Pause(ctx, js, "p1", "ann", ""), bus.ErrNewer)
	value, _, err := bus.ReadKey(ctx, js, bus.BucketRollout, bus.PlanPrefix+"p1")
	require.NoError(t, err)
	require.Equal(t, newer, string(value))
	cancel()
	<-waits
}
