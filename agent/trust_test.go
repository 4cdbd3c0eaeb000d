package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
)

// Nobody said whom to trust: nothing is applied, nothing is given up, and the first join file catches up.
func TestNodeWithoutJoinFileWaits(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	file := n.cfg.JoinFile
	n.cfg.JoinFile = ""
	const waiting = "waiting: no key to trust: set BOOSTER_JOIN_FILE"
	var log bytes.Buffer
	n.log = zerolog.SyncWriter(&log)
	n.start()
	n.state(func(s bus.AgentState) bool { return s.PatchState == waiting })
	ids := []string{
		publish(t, n.client, map[string]string{"omflow/app.py": "v1"}, patch.Options{}).ID,
		publish(t, n.client, map[string]string{"omflow/app.py": "v2"}, patch.Options{}).ID,
	}
	looked := time.Now()
	n.eventually(func() bool { return time.Since(looked) > 5*n.cfg.PatchEvery }, "several looks")
	require.Equal(t, waiting, n.state(func(bus.AgentState) bool { return true }).PatchState)
	require.Equal(t, "v0", n.read("omflow/app.py"))
	reports, err := patch.Reports(t.Context(), n.client.JS)
	require.NoError(t, err)
	require.Empty(t, reports)
	n.stop()
	require.Equal(t, 1, strings.Count(log.String(), "no key to trust"), "said once: %s", log.String())

	n.cfg.JoinFile = file
	n.start()
	for _, id := range ids {
		n.report(id, patch.StateApplied)
	}
	require.Equal(t, "v2", n.read("omflow/app.py"))
}

// What a stranger signed is refused before anything happens; a key that is added to the file counts at once.
func TestPatchOfAStrangerIsRefusedUntilItsKeyIsAdded(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	n.start()
	stranger := newKey(t)
	signer := signerOf(t, stranger)
	refused := publish(t, n.client, map[string]string{"omflow/app.py": "evil"}, patch.Options{Signer: signer})
	require.Contains(t, n.report(refused.ID, patch.StateFailed).Error, "key "+signer.KeyID()+", which signed it, is not in the join file")
	require.Equal(t, "v0", n.read("omflow/app.py"))
	require.Equal(t, 1, n.count("server-start"), "the server was not disturbed")
	left, err := os.ReadDir(filepath.Join(n.cfg.DataDir, stagingDir))
	require.NoError(t, err)
	require.Empty(t, left)

	key, err := ours()
	require.NoError(t, err)
	both := key.Public()
	_, err = both.Add(stranger)
	require.NoError(t, err)
	require.NoError(t, both.Replace(n.cfg.JoinFile))
	taken := publish(t, n.client, map[string]string{"omflow/app.py": "v1"}, patch.Options{Signer: signer})
	n.report(taken.ID, patch.StateApplied)
	require.Equal(t, "v1", n.read("omflow/app.py"))
}

// A join file that is spoilt while the agent runs keeps patches waiting; it is neither ignored nor held against them.
func TestJoinFileThatIsSpoiltLater(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	good, err := os.ReadFile(n.cfg.JoinFile)
	require.NoError(t, err)
	n.start()
	require.NoError(t, os.WriteFile(n.cfg.JoinFile, []byte("spoilt"), 0o600))
	a := publish(t, n.client, map[string]string{"omflow/app.py": "v1"}, patch.Options{})
	require.Contains(t, n.report(a.ID, patch.StateRetrying).Error, "BOOSTER_JOIN_FILE")
	require.Equal(t, "v0", n.read("omflow/app.py"))
	require.NoError(t, os.WriteFile(n.cfg.JoinFile, good, 0o600))
	n.report(a.ID, patch.StateApplied)
}

func TestAgentRefusesAJoinFileThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	n.cfg.JoinFile = filepath.Join(t.TempDir(), "none")
	_, err := New(n.cfg, Deps{Client: n.client}, zerolog.Nop())
	var wrong *config.Error
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, "BOOSTER_JOIN_FILE", wrong.Var)
}

// A revocation outlives the Booster: the node that knows it keeps to it, and tells the new Booster for those that were away.
func TestRevokedKeyStaysRevokedAfterTheBoosterLostItsData(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	n := newNode(t, b, "srv1")
	key := newKey(t)
	signer := signerOf(t, key)
	n.cfg.JoinFile = joinFile(t, key)
	n.start()
	fine := publish(t, n.client, map[string]string{"omflow/app.py": "v1"}, patch.Options{Signer: signer})
	n.report(fine.ID, patch.StateApplied)
	revocation := patch.Revocation{Key: signer.KeyID(), By: "ann", Reason: "stolen", At: time.Now().UTC().Truncate(time.Second)}
	require.NoError(t, patch.Revoke(t.Context(), n.client.JS, revocation))
	says := "key " + signer.KeyID() + ", which signed it, was revoked on " + revocation.At.Format(time.DateOnly) + ": stolen"
	late := publish(t, n.client, map[string]string{"omflow/app.py": "evil"}, patch.Options{Signer: signer})
	require.Contains(t, n.report(late.ID, patch.StateFailed).Error, says)

	n.stop()
	b.Stop()
	b.Wipe()
	b.Start()
	require.NoError(t, n.client.WaitReady(t.Context()))
	later := publish(t, n.client, map[string]string{"omflow/app.py": "evil too"}, patch.Options{Signer: signer})
	n.start()
	require.Contains(t, n.report(later.ID, patch.StateFailed).Error, says)
	require.Equal(t, "v1", n.read("omflow/app.py"))
	n.eventually(func() bool {
		there, err := patch.Revoked(t.Context(), n.client.JS)
		return err == nil && there[signer.KeyID()] == revocation
	}, "the bus knows it again")
}

// While a node waits for its turn, the key may be revoked: then its turn changes nothing.
func TestKeyThatIsRevokedWhileANodeWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	n.cfg.PatchEvery = time.Hour // only the turn itself looks
	key := newKey(t)
	signer := signerOf(t, key)
	n.cfg.JoinFile = joinFile(t, key)
	name, m := artifact(t, map[string]string{"omflow/app.py": "v1"}, patch.Options{Signer: signer})
	require.NoError(t, rollout.Pause(t.Context(), n.client.JS, m.ID, "ann", ""))
	a := republish(t, n.client, name)
	n.start()
	n.state(func(s bus.AgentState) bool { return s.PatchNext == m.ID })
	require.NoError(t, patch.Revoke(t.Context(), n.client.JS, patch.Revocation{Key: signer.KeyID(), At: time.Now()}))
	require.NoError(t, rollout.Resume(t.Context(), n.client.JS, m.ID, "ann"))
	require.Contains(t, n.report(a.ID, patch.StateFailed).Error, "was revoked")
	require.Equal(t, "v0", n.read("omflow/app.py"))
	require.Equal(t, 1, n.count("server-start"))
}

// An announcement is not signed: one that lies about a signed patch brings nothing.
func TestAnnouncementThatLiesIsRefused(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	n.start()
	n.idle()
	n.stop() // publish first, then look
	a := publish(t, n.client, map[string]string{"omflow/app.py": "v1"}, patch.Options{})
	stream, err := n.client.JS.Stream(t.Context(), bus.StreamPatch)
	require.NoError(t, err)
	require.NoError(t, stream.DeleteMsg(t.Context(), a.Seq))
	a.Created = a.Created.Add(24 * time.Hour)
	announce(t, n.client, a)
	n.start()
	require.Contains(t, n.report(a.ID, patch.StateFailed).Error, "not what was announced")
	require.Equal(t, "v0", n.read("omflow/app.py"))
	next := publish(t, n.client, map[string]string{"omflow/app.py": "v2"}, patch.Options{})
	n.report(next.ID, patch.StateApplied)
}
