package join

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/config"
)

func made(t *testing.T, name string) (*File, string) {
	t.Helper()
	f, err := New(name, time.Now())
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "join.json")
	require.NoError(t, f.Create(path))
	return f, path
}

func TestFileSignsAndItsPublicCopyVerifies(t *testing.T) {
	t.Parallel()
	_, path := made(t, "ann")
	require.ErrorIs(t, (&File{fields: map[string]json.RawMessage{}}).Create(path), fs.ErrExist, "an older key is never overwritten")
	if runtime.GOOS != "windows" {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.EqualValues(t, 0o600, info.Mode().Perm())
	}
	f, err := Load(path)
	require.NoError(t, err)
	signer, err := f.Signer()
	require.NoError(t, err)
	signature := signer.Sign([]byte("manifest"))

	copied := filepath.Join(t.TempDir(), "public.json")
	require.NoError(t, f.Public().Create(copied))
	data, err := os.ReadFile(copied)
	require.NoError(t, err)
	require.NotContains(t, string(data), "private")
	public, err := Load(copied)
	require.NoError(t, err)
	require.Equal(t, f.Keys(), public.Keys())
	_, err = public.Signer()
	require.ErrorIs(t, err, ErrNoPrivateKey)
	require.NoError(t, public.Verify(signer.KeyID(), []byte("manifest"), signature))
	require.ErrorContains(t, public.Verify(signer.KeyID(), []byte("manifesto"), signature), "changed after it was signed")
	require.ErrorContains(t, public.Verify("0123456789abcdef", []byte("manifest"), signature), "is not in the join file")
}

// Several signers: keys are added once, and neither key may speak for the other.
func TestKeysAreAdded(t *testing.T) {
	t.Parallel()
	one, path := made(t, "ann")
	two, _ := made(t, "bob")
	for _, want := range []int{1, 0} {
		added, err := one.Add(two.Public())
		require.NoError(t, err)
		require.Equal(t, want, added)
	}
	require.NoError(t, one.Replace(path))
	f, err := Load(path)
	require.NoError(t, err)
	require.Len(t, f.Keys(), 2)
	first, err := f.Signer()
	require.NoError(t, err)
	second, err := two.Signer()
	require.NoError(t, err)
	require.NoError(t, f.Verify(second.KeyID(), []byte("x"), second.Sign([]byte("x"))))
	require.Error(t, f.Verify(first.KeyID(), []byte("x"), second.Sign([]byte("x"))))
}

// Later versions put more into the file: it is kept, in the file and in each key, and what is private stays private.
func TestUnknownFieldsAreKept(t *testing.T) {
	t.Parallel()
	_, path := made(t, "ann")
	edit(t, path, func(doc map[string]any) {
		doc["ca"] = "later"
		doc["private"].(map[string]any)["ca_key"] = "secret"
		doc["patch_keys"].([]any)[0].(map[string]any)["expires"] = "never"
	})
	f, err := Load(path)
	require.NoError(t, err)
	_, otherPath := made(t, "bob")
	edit(t, otherPath, func(doc map[string]any) { doc["patch_keys"].([]any)[0].(map[string]any)["expires"] = "soon" })
	other, err := Load(otherPath)
	require.NoError(t, err)
	_, err = f.Add(other)
	require.NoError(t, err)
	require.NoError(t, f.Replace(path))
	edit(t, path, func(doc map[string]any) {
		require.Equal(t, "later", doc["ca"])
		require.Equal(t, "secret", doc["private"].(map[string]any)["ca_key"])
		require.Equal(t, "never", doc["patch_keys"].([]any)[0].(map[string]any)["expires"])
		require.Equal(t, "soon", doc["patch_keys"].([]any)[1].(map[string]any)["expires"])
	})
	data, err := f.Public().encode()
	require.NoError(t, err)
	require.Contains(t, string(data), "later")
	require.NotContains(t, string(data), "secret")
}

func edit(t *testing.T, path string, change func(doc map[string]any)) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	var doc map[string]any
	require.NoError(t, json.Unmarshal(data, &doc))
	change(doc)
	data, err = json.Marshal(doc)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, data, 0o600))
}

func TestFileThatCannotBeUsedIsAWrongSetting(t *testing.T) {
	t.Parallel()
	key := func(doc map[string]any) map[string]any { return doc["patch_keys"].([]any)[0].(map[string]any) }
	for name, bad := range map[string]struct {
		change func(doc map[string]any)
		says   string
	}{
		"no format":       {func(doc map[string]any) { delete(doc, "format") }, "not made by"},
		"newer format":    {func(doc map[string]any) { doc["format"] = 2 }, "update omflow-booster"},
		"no keys":         {func(doc map[string]any) { doc["patch_keys"] = []any{} }, "names no key"},
		"keys of no form": {func(doc map[string]any) { doc["patch_keys"] = "x" }, "cannot be read"},
		"short key":       {func(doc map[string]any) { key(doc)["public_key"] = "AAAA" }, "32 bytes"},
		"other id":        {func(doc map[string]any) { key(doc)["id"] = "0123456789abcdef" }, "should be"},
		"key twice":       {func(doc map[string]any) { doc["patch_keys"] = []any{key(doc), key(doc)} }, "twice"},
		"long name":       {func(doc map[string]any) { key(doc)["name"] = strings.Repeat("x", 300) }, "longer than"},
		"damaged secret":  {func(doc map[string]any) { doc["private"] = map[string]any{"patch_key": "hunter2"} }, `"private" cannot be read`},
		"short secret":    {func(doc map[string]any) { doc["private"] = map[string]any{"patch_key": "AAAA"} }, `"private" cannot be read`},
		"secret of a stranger": {func(doc map[string]any) {
			doc["private"] = map[string]any{"patch_key": strings.Repeat("A", 43) + "="}
		}, "none of its public keys"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, path := made(t, "ann")
			edit(t, path, bad.change)
			refused(t, path, path, bad.says)
			_, err := Load(path)
			require.NotContains(t, err.Error(), "hunter2", "a secret is never shown")
		})
	}
	refused(t, "", "not set")
	refused(t, filepath.Join(t.TempDir(), "none"), "no such file", "may read")
	refused(t, t.TempDir(), "is a directory")
	text := filepath.Join(t.TempDir(), "text")
	require.NoError(t, os.WriteFile(text, []byte("null"), 0o600))
	refused(t, text, "not a JSON object")
}

func TestPrivateKeyThatOthersMayReadIsRefused(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		return // has no such bits
	}
	f, path := made(t, "ann")
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o620} {
		require.NoError(t, os.Chmod(path, mode))
		refused(t, path, "others may read its private key", "chmod 600 "+path)
	}
	public := filepath.Join(t.TempDir(), "public.json")
	require.NoError(t, f.Public().Create(public))
	require.NoError(t, os.Chmod(public, 0o644))
	_, err := Load(public)
	require.NoError(t, err, "there is nothing to hide in it")
}

func refused(t *testing.T, path string, says ...string) {
	t.Helper()
	_, err := Load(path)
	var wrong *config.Error
	require.True(t, errors.As(err, &wrong), "%v", err)
	require.Equal(t, "BOOSTER_JOIN_FILE", wrong.Var)
	for _, s := range says {
		require.Contains(t, err.Error(), s)
	}
}
