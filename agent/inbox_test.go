package agent

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/patch"
)

func TestPatchInTheInboxReachesAllServers(t *testing.T) {
	t.Parallel()
	b := newBus(t)
	one, two := newNode(t, b, "srv1"), newNode(t, b, "srv2")
	one.start()
	two.start()
	inbox := filepath.Join(one.cfg.DataDir, "inbox")
	one.eventually(func() bool { _, err := os.Stat(inbox); return err == nil }, "inbox is there")
	put := func(name string, content []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(inbox, name), content, 0o600))
	}
	good, m := artifact(t, map[string]string{"omflow/app.py": "v1"}, patch.Options{})
	content, err := os.ReadFile(good)
	require.NoError(t, err)
	stranger, _ := artifact(t, map[string]string{"omflow/app.py": "evil"}, patch.Options{Signer: signerOf(t, newKey(t))})
	evil, err := os.ReadFile(stranger)
	require.NoError(t, err)
	put("a-readme.txt", []byte("no patch"))
	put("b-evil.tar.zst", evil)
	put("c-short.tar.zst", content[:len(content)/2])
	put("d-fix.tar.zst", content)
	for _, n := range []*node{one, two} {
		n.report(m.ID, patch.StateApplied)
		require.Equal(t, "v1", n.read("omflow/app.py"))
	}
	require.Equal(t, "srv1", first(t, one, m.ID))
	one.eventually(func() bool { _, err := os.Stat(filepath.Join(inbox, inboxDone, "d-fix.tar.zst")); return err == nil }, "put aside")
	for name, says := range map[string]string{
		"a-readme.txt": "patch refused", "b-evil.tar.zst": "is not in the join file",
		"c-short.tar.zst": "ends too early",
	} {
		reason, err := os.ReadFile(filepath.Join(inbox, inboxRefused, name+".reason.txt"))
		require.NoError(t, err)
		require.Contains(t, string(reason), says)
		require.FileExists(t, filepath.Join(inbox, inboxRefused, name))
	}
	published(t, one, 1)
}

// first is the node that was the first to finish a patch.
func first(t *testing.T, n *node, id string) string {
	t.Helper()
	all, err := patch.Reports(t.Context(), n.client.JS)
	require.NoError(t, err)
	who := all[id][0]
	for _, r := range all[id] {
		if r.Finished.Before(who.Finished) {
			who = r
		}
	}
	return who.Node
}
