package adopt

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// handEdited are settings as people leave them behind.
var handEdited = map[string]string{
	"plain":               "INSTALLED_APPS = ['omflow']\n",
	"no end":              "INSTALLED_APPS = ['omflow']\nDEBUG = False",
	"windows":             "# -*- coding: utf-8 -*-\r\nINSTALLED_APPS = ['omflow']\r\n\r\nBOOSTER_IP = '' \r\n",
	"windows, no end":     "INSTALLED_APPS = ['omflow']\r\n\tX = 1",
	"no text of ours":     "\xff\xfe bytes \x00\n\n\n",
	"empty":               "",
	"newlines at its end": "A = 1\n\n\n",
}

func TestUndoIsByteIdentical(t *testing.T) {
	t.Parallel()
	for name, text := range handEdited {
		changed := addBlock([]byte(text), []string{"A = 1", "B = 2"})
		require.NotEqual(t, text, string(changed), name)
		undone, err := removeBlock(changed)
		require.NoError(t, err)
		require.Equal(t, text, string(undone), name)

		twice := addBlock(changed, []string{"A = 3"}) // adopted again, with another Booster
		require.Equal(t, 1, bytes.Count(twice, []byte(blockEnd)), name)
		require.Contains(t, string(twice), "A = 3", name)
		require.Contains(t, string(twice), "B = 2", name)
		undone, err = removeBlock(twice)
		require.NoError(t, err)
		require.Equal(t, text, string(undone), name)

		edited := "# new\n" + string(changed) + "LATER = 1\n" // edited by hand since, above and below
		undone, err = removeBlock([]byte(edited))
		require.NoError(t, err)
		if !strings.Contains(name, "no end") {
			require.Equal(t, "# new\n"+text+"LATER = 1\n", string(undone), name)
		}
	}
	_, err := removeBlock([]byte(blockEnd + "\n"))
	require.ErrorIs(t, err, errBlockBroken)
	none, err := removeBlock([]byte("A = 1\n"))
	require.NoError(t, err)
	require.Nil(t, none)
}

func TestDifference(t *testing.T) {
	t.Parallel()
	require.Equal(t, "--- s\n+++ s\n@@ -2,3 +2,4 @@\n b\n c\n d\n+e\n", difference("s", []byte("a\nb\nc\nd\n"), []byte("a\nb\nc\nd\ne\n")))
	require.Equal(t, "--- s\n+++ s\n@@ -1,2 +1,1 @@\n a\n-b\n", difference("s", []byte("a\nb\nc\n"), []byte("a\nc\n")))
}
