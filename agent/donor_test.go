package agent

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// A repair changes the files of a server between two patches: what was stored before is not given as what it has now.
func TestStoredHomeIsThatOfTheOffer(t *testing.T) {
	t.Parallel()
	g, err := newDonor(make(chan struct{}, 1), func(*bus.SettingsRequest) (*bus.SealedSettings, error) { return nil, nil })
	require.NoError(t, err)
	before := bus.HomeOffer{Node: "srv1", Seq: 7, Baseline: "before"}
	g.set(&before)
	require.Empty(t, g.answer().Artifact, "asked for")
	require.True(t, g.wanted())
	g.done(bus.HomeTransfer{Seq: 7, Artifact: json.RawMessage(`"stored"`)}, "before")
	require.NotEmpty(t, g.answer().Artifact)
	require.False(t, g.wanted())

	repaired := before
	repaired.Baseline = "repaired"
	g.set(&repaired)
	require.Empty(t, g.answer().Artifact, "files of another baseline")
	require.True(t, g.wanted())
	g.done(bus.HomeTransfer{Seq: 7, Artifact: json.RawMessage(`"anew"`)}, "repaired")
	require.JSONEq(t, `"anew"`, string(g.answer().Artifact))
}

// Who waits in a conflict makes nothing for a new server, so it must not offer it.
func TestConflictWithdrawsTheOffer(t *testing.T) {
	t.Parallel()
	n := newWatchingNode(t, newBus(t), "srv1")
	n.cfg.Watch, n.cfg.WatchQuiet = watchReport, timeout // the conflict is found before the change is
	n.start()
	n.drift(undrifted)
	offered := func() bool {
		_, err := n.client.NC.Request(bus.HomeSubject, nil, 500*time.Millisecond)
		return err == nil
	}
	n.eventually(offered, "an offer")
	n.write("omflow/app.py", "by hand")
	a := publish(t, n.client, map[string]string{"omflow/app.py": "v1"}, patch.Options{})
	n.report(a.ID, patch.StateConflict)
	require.False(t, offered())
}
