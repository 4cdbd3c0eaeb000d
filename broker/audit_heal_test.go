package broker

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// pretend answers the audit for a member that is not there and refuses to rebuild its copy of a stream.
func pretend(t *testing.T, b *Broker, member, stream string, holds contents) {
	t.Helper()
	state := replicaState{Life: "first", Streams: map[string]replicaCopy{stream: {Applied: 1, First: 1, Last: 1, Messages: 1}}}
	for what, answer := range map[string]any{
		askState: state, askContent: contentAnswer{Contents: holds.pack()}, askRebuild: map[string]string{"error": "no"},
	} {
		_, err := b.sys.Subscribe(bus.AuditSubject(what, member), func(m *nats.Msg) {
			data, _ := json.Marshal(answer)
			_ = m.Respond(data)
		})
		require.NoError(t, err)
	}
}

func TestCopyThatCouldNotBeRebuiltIsDueAgain(t *testing.T) {
	t.Parallel()
	b, _ := started(t, testConfig(t))
	b.cfg.AuditEvery = time.Hour
	pretend(t, b, "x", bus.StreamWork, contents{1: 7})
	pretend(t, b, "y", bus.StreamWork, contents{1: 7})
	pretend(t, b, "odd", bus.StreamWork, contents{})
	v := &view{streams: map[string]streamView{bus.StreamWork: {leader: "x", members: []*jetstream.PeerInfo{
		{Name: "y", Current: true},
		{Name: "odd", Current: true},
	}}}}
	for _, name := range []string{"x", "y", "odd"} {
		v.peers = append(v.peers, peer{name: name, online: true})
	}
	b.view.Store(v)
	a := newAuditor(b)
	a.passed[bus.StreamWork] = map[string]string{"x": "first", "y": "first", "odd": "first"} // it was sound, until AuditEvery had passed

	require.NoError(t, a.round(t.Context(), v))
	require.Nil(t, a.rebuilding, "it refused")
	require.Contains(t, b.audit.Load().compared(), "not compared yet")
	require.Contains(t, b.audit.Load().finding, "could not be rebuilt")
	states, err := a.states(t.Context(), v)
	require.NoError(t, err)
	group := []string{"x", "y", "odd"}
	require.False(t, a.due(bus.StreamWork, group, states), "not at once")
	a.at[bus.StreamWork] = time.Now().Add(-unresolvedFor)
	require.True(t, a.due(bus.StreamWork, group, states))
}

func TestOneCopyIsRebuiltAtATime(t *testing.T) {
	t.Parallel()
	a := newAuditor(&Broker{log: zerolog.Nop()})
	first := &rebuildJob{stream: bus.StreamWork, member: "odd", since: time.Now()}
	a.rebuilding = first
	a.resolve(t.Context(), bus.StreamDead, comparison{odd: "x"}, nil)
	require.Same(t, first, a.rebuilding)
	require.NotEmpty(t, a.unresolved[bus.StreamDead], "it must not keep the others from being compared")
}

func TestCopyThatRecoveredByItselfIsNotBeingRebuilt(t *testing.T) {
	t.Parallel()
	a := newAuditor(&Broker{cfg: Config{AuditEvery: time.Hour}, log: zerolog.Nop()})
	states := map[string]replicaState{"x": {Life: "first"}, "odd": {Life: "first"}}
	group := []string{"x", "odd"}
	a.rebuilding = &rebuildJob{stream: bus.StreamWork, member: "odd", life: "first", since: time.Now()}
	a.at[bus.StreamWork] = time.Now()
	a.pass(t.Context(), bus.StreamWork, group, states)
	require.NotNil(t, a.rebuilding, "it may be about to start again")
	require.False(t, a.due(bus.StreamWork, group, states))

	a.rebuilding.since = time.Now().Add(-rebuildAfter)
	require.True(t, a.due(bus.StreamWork, group, states))
	a.pass(t.Context(), bus.StreamWork, group, states)
	require.Nil(t, a.rebuilding)
	require.False(t, a.due(bus.StreamWork, group, states))
}

func TestObjectStoresAreComparedInSmallWindows(t *testing.T) {
	t.Parallel()
	require.EqualValues(t, objectSpan, spanOf("OBJ_"+bus.ObjectPatches))
	require.EqualValues(t, contentSpan, spanOf(bus.StreamWork))
}
