package agent

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// ask asks a node for its files until it has answered completely.
func ask(t *testing.T, n *node, want bus.HomeRequest) (transfer bus.HomeTransfer) {
	t.Helper()
	question, err := json.Marshal(want)
	require.NoError(t, err)
	n.eventually(func() bool {
		reply, err := n.client.NC.Request(bus.TransferSubject(n.cfg.Name), question, timeout)
		require.NoError(t, err)
		transfer = bus.HomeTransfer{}
		require.NoError(t, json.Unmarshal(reply.Data, &transfer))
		return len(transfer.Artifact) > 0
	}, "transfer")
	return transfer
}

// Nobody on the bus gets the password of the database by asking, and it is stored nowhere, not even for those who may have it.
func TestSettingsAreForWhoSigns(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	n := newWatchingNode(t, b, "srv1")
	n.cfg.Provision = provisionSettings
	n.write(patch.SettingsFile, "PASSWORD = 'very secret'")
	n.start()
	n.drift(undrifted)

	transfer := ask(t, n, bus.HomeRequest{})
	require.Nil(t, transfer.Settings)
	var a patch.Announcement
	require.NoError(t, json.Unmarshal(transfer.Artifact, &a))
	var artifact bytes.Buffer
	require.NoError(t, patch.Fetch(t.Context(), n.client.JS, a, &artifact))
	m, err := patch.Verify(&artifact, patch.DefaultLimit, func(string, []byte, []byte) error { return nil })
	require.NoError(t, err)
	for _, f := range m.Files {
		require.NotEqual(t, patch.SettingsFile, f.Path)
	}

	asker, err := newSettingsAsker()
	require.NoError(t, err)
	stranger := asker.request("srv1", signerOf(t, newKey(t)))
	transfer = ask(t, n, bus.HomeRequest{Settings: stranger})
	require.Nil(t, transfer.Settings)
	require.Contains(t, transfer.SettingsError, "is not in the join file")

	key, err := ours()
	require.NoError(t, err)
	signed := asker.request("srv1", signerOf(t, key))
	other, err := newSettingsAsker()
	require.NoError(t, err)
	stolen := *signed
	stolen.Public = other.public[:] // the signature of somebody else for a key of one's own
	require.Contains(t, ask(t, n, bus.HomeRequest{Settings: &stolen}).SettingsError, "is not that of key")
	elsewhere := asker.request("srv2", signerOf(t, key)) // for another server
	require.Contains(t, ask(t, n, bus.HomeRequest{Settings: elsewhere}).SettingsError, "is not that of key")

	transfer = ask(t, n, bus.HomeRequest{Settings: signed})
	require.NotContains(t, string(transfer.Settings.Box), "secret")
	trusted := patch.Trust(key.Verify)
	file, err := asker.open(transfer.Settings, trusted)
	require.NoError(t, err)
	require.Equal(t, "PASSWORD = 'very secret'", string(file.Content))
	_, err = other.open(transfer.Settings, trusted)
	require.Error(t, err, "it is sealed to the one that asked")
	_, err = asker.open(transfer.Settings, newKey(t).Verify)
	require.ErrorContains(t, err, "is not in the join file", "who gives settings gives code")

	require.NoError(t, patch.Revoke(t.Context(), n.client.JS, patch.Revocation{Key: signed.Key}))
	require.Contains(t, ask(t, n, bus.HomeRequest{Settings: signed}).SettingsError, "was revoked")
}

// A new server without settings says where they come from, and touches nothing before; the store of the bus never had them.
func TestNewHostWaitsForSettings(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	one := newWatchingNode(t, b, "srv1")
	one.write(patch.SettingsFile, "PASSWORD = 'very secret'")
	one.start()
	one.drift(undrifted)
	fresh := newBareNode(t, b, "srv2")
	fresh.start()
	fresh.eventually(func() bool {
		nodes, err := bus.Nodes(t.Context(), fresh.client.JS)
		for _, n := range nodes {
			if n.Name == "srv2" && n.Agent.PatchAsks && strings.Contains(n.Agent.PatchState, "omflow/settings.py is missing") {
				return err == nil
			}
		}
		return false
	}, "it says what is missing")
	entries, err := os.ReadDir(fresh.cfg.Home)
	require.NoError(t, err)
	require.Empty(t, entries)
	fresh.write(patch.SettingsFile, "its own")
	fresh.eventually(func() bool { return fresh.count("worker-start") == 1 }, "new server works")
	require.Equal(t, "its own", fresh.read(patch.SettingsFile))
}

func TestSettingsComeWithTheirMode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	home, err := os.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = home.Close() })
	require.NoError(t, patch.WriteLocal(home, patch.SettingsFile, []byte("x"), 0o640))
	info, err := os.Stat(filepath.Join(dir, patch.SettingsFile))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o640), info.Mode())
	entries, err := os.ReadDir(filepath.Join(dir, "omflow"))
	require.NoError(t, err)
	require.Len(t, entries, 1)
}
