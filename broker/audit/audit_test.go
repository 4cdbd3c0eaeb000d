package audit

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/leaktest"
)

func TestMain(m *testing.M) {
	leaktest.Main(m)
}

// fakeBooster is an active Booster whose members answer what is in answers, by subject.
type fakeBooster struct {
	cluster *Cluster
	answers map[string][]byte
}

func (b *fakeBooster) Active() bool                   { return true }
func (b *fakeBooster) Cluster() *Cluster              { return b.cluster }
func (b *fakeBooster) HandOver(context.Context) error { return nil }

func (b *fakeBooster) Request(_ context.Context, subject string, _ []byte) ([]byte, error) {
	answer, there := b.answers[subject]
	if !there {
		return nil, nats.ErrNoResponders
	}
	return answer, nil
}

// pretend adds a member that refuses to rebuild its copy of a stream.
func (b *fakeBooster) pretend(t *testing.T, member, stream string, holds contents) {
	t.Helper()
	state := replicaState{Life: "first", Streams: map[string]replicaCopy{stream: {Applied: 1, First: 1, Last: 1, Messages: 1}}}
	for what, answer := range map[string]any{
		askState: state, askContent: contentAnswer{Contents: holds.pack()}, askRebuild: map[string]string{"error": "no"},
	} {
		data, err := json.Marshal(answer)
		require.NoError(t, err)
		b.answers[bus.AuditSubject(what, member)] = data
	}
}

func newAuditor(t *testing.T, b Booster) *Auditor {
	t.Helper()
	a, err := New(Config{Name: "x", Every: time.Hour, Log: zerolog.Nop()}, b)
	require.NoError(t, err)
	return a
}

func TestWhatAnAuditNeeds(t *testing.T) {
	t.Parallel()
	for missing, cfg := range map[string]Config{"Name": {Every: time.Hour}, "Every": {Name: "x"}} {
		_, err := New(cfg, &fakeBooster{})
		require.ErrorContains(t, err, missing)
	}
	_, err := New(Config{Name: "x", Every: time.Hour}, nil)
	require.ErrorContains(t, err, "no Booster")
	_, err = NewReplica(nil, nil, zerolog.Nop())
	require.ErrorContains(t, err, "no server")
	_, err = NewReplica(&server.Server{}, nil, zerolog.Nop())
	require.ErrorContains(t, err, "no store")
}

func TestCopyThatCouldNotBeRebuiltIsDueAgain(t *testing.T) {
	t.Parallel()
	c := &Cluster{Leader: "x", Streams: map[string]Stream{bus.StreamWork: {Leader: "x", Followers: []Follower{
		{Name: "y", Current: true},
		{Name: "odd", Current: true},
	}}}}
	b := &fakeBooster{cluster: c, answers: map[string][]byte{}}
	b.pretend(t, "x", bus.StreamWork, contents{1: 7})
	b.pretend(t, "y", bus.StreamWork, contents{1: 7})
	b.pretend(t, "odd", bus.StreamWork, contents{})
	for _, name := range []string{"x", "y", "odd"} {
		c.Members = append(c.Members, Member{Name: name, Online: true})
	}
	a := newAuditor(t, b)
	a.passed[bus.StreamWork] = map[string]string{"x": "first", "y": "first", "odd": "first"} // it was sound, until Every had passed

	require.NoError(t, a.round(t.Context(), c))
	require.Nil(t, a.rebuilding, "it refused")
	require.Contains(t, a.Verdict().Takeover(), "not compared yet")
	require.Contains(t, a.Verdict().Finding, "could not be rebuilt")
	states, err := a.states(t.Context(), c)
	require.NoError(t, err)
	group := []string{"x", "y", "odd"}
	require.False(t, a.due(bus.StreamWork, group, states), "not at once")
	a.at[bus.StreamWork] = time.Now().Add(-unresolvedFor)
	require.True(t, a.due(bus.StreamWork, group, states))
}

func TestOneCopyIsRebuiltAtATime(t *testing.T) {
	t.Parallel()
	a := newAuditor(t, &fakeBooster{})
	first := &rebuildJob{stream: bus.StreamWork, member: "odd", since: time.Now()}
	a.rebuilding = first
	a.resolve(t.Context(), bus.StreamDead, comparison{odd: "x"}, nil)
	require.Same(t, first, a.rebuilding)
	require.NotEmpty(t, a.unresolved[bus.StreamDead], "it must not keep the others from being compared")
}

func TestCopyThatRecoveredByItselfIsNotBeingRebuilt(t *testing.T) {
	t.Parallel()
	a := newAuditor(t, &fakeBooster{})
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
