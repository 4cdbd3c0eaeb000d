package patch

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/bustest"
)

func TestArtifactThatNobodyTrustedSignedIsRefused(t *testing.T) {
	t.Parallel()
	sign := func(key string, signature []byte) []byte {
		data, err := json.Marshal(map[string]any{"key": key, "ed25519": signature})
		require.NoError(t, err)
		return data
	}
	entry := func(data []byte) func(manifest, sig []byte) (string, []byte) {
		return func([]byte, []byte) (string, []byte) { return signatureEntry, data }
	}
	for name, bad := range map[string]struct {
		spoil func(c *craft)
		says  string
	}{
		"no signature":         {func(c *craft) { c.signer = nil }, "where manifest.sig belongs"},
		"newer format":         {func(c *craft) { c.signer, c.manifest.Format = nil, Format+1 }, "where manifest.sig belongs"},
		"newer format, eve":    {func(c *craft) { c.signer, c.manifest.Format = eve, Format+1 }, "eve is unknown"},
		"older format":         {func(c *craft) { c.signer, c.manifest.Format = nil, 1 }, "older omflow-booster"},
		"older format, signed": {func(c *craft) { c.manifest.Format = 1 }, "older omflow-booster"},
		"unknown key":          {func(c *craft) { c.signer = eve }, "eve is unknown"},
		"in another's name": {func(c *craft) {
			c.forge = func(manifest, _ []byte) (string, []byte) { return signatureEntry, sign("ann", eve.Sign(manifest)) }
		}, "bad signature"},
		"of another patch":   {func(c *craft) { c.forge = entry(sign("ann", ann.Sign([]byte("{}")))) }, "bad signature"},
		"empty":              {func(c *craft) { c.forge = entry(sign("ann", nil)) }, "bad signature"},
		"not JSON":           {func(c *craft) { c.forge = entry([]byte("x")) }, "signature cannot be read"},
		"key that is a path": {func(c *craft) { c.forge = entry(sign("../ann", nil)) }, "signature cannot be read"},
		"large":              {func(c *craft) { c.forge = entry(make([]byte, maxSignatureBytes+1)) }, "manifest.sig is larger than"},
		"elsewhere": {
			func(c *craft) { c.forge = func(_, sig []byte) (string, []byte) { return "sig", sig } },
			"where manifest.sig belongs",
		},
		"manifest is no object": {func(c *craft) { c.raw = []byte("[]") }, "manifest cannot be read"},
		"bomb of a manifest":    {func(c *craft) { c.raw = make([]byte, maxManifestBytes+1) }, "manifest.json is larger than"},
		"revoked key":           {func(*craft) {}, "key ann, which signed it, was revoked on 2026-02-03: stolen"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, trust := honest(), Trust(trusted)
			bad.spoil(c)
			if name == "revoked key" {
				trust = trust.Except(Revocations{"ann": {Key: "ann", Reason: "stolen", At: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)}})
			}
			_, err := Verify(bytes.NewReader(c.bytes(t)), 1000, trust)
			require.ErrorIs(t, err, ErrInvalid)
			require.ErrorContains(t, err, bad.says)
		})
	}
}

// A patch of a newer program is no bad one. It waits for the update, if somebody trusted answers for it.
func TestArtifactOfANewerProgramWaits(t *testing.T) {
	t.Parallel()
	c := honest()
	c.manifest.Format = Format + 1
	_, err := Verify(bytes.NewReader(c.bytes(t)), 1000, trusted)
	require.ErrorIs(t, err, bus.ErrNewer)
	require.NotErrorIs(t, err, ErrInvalid)
	require.ErrorContains(t, err, "its format is 3 and this omflow-booster knows 2; update the omflow-booster of this host")
	c.raw = []byte(`{"format":3,"id":7,"files":"of another shape","new":{}}`)
	_, err = Verify(bytes.NewReader(c.bytes(t)), 1000, trusted)
	require.ErrorIs(t, err, bus.ErrNewer)
}

// A changed byte in the manifest, the signature or a file is found, even when the archive was compressed anew.
func TestEveryByteIsSigned(t *testing.T) {
	t.Parallel()
	unpack, err := zstd.NewReader(bytes.NewReader(honest().bytes(t)))
	require.NoError(t, err)
	defer unpack.Close()
	plain, err := io.ReadAll(unpack)
	require.NoError(t, err)
	require.NoError(t, verifyPlain(t, plain))

	manifest, err := json.Marshal(honest().manifest)
	require.NoError(t, err)
	sig, err := json.Marshal(signature{ann.KeyID(), ann.Sign(manifest)})
	require.NoError(t, err)
	for name, content := range map[string][]byte{"manifest": manifest, "signature": sig, "file": []byte("new b")} {
		at := bytes.Index(plain, content)
		require.Positive(t, at, name)
		for i := at; i < at+len(content); i++ {
			changed := bytes.Clone(plain)
			changed[i] ^= 1
			var same signature
			if json.Unmarshal(changed[at:at+len(content)], &same) == nil && same.Key == ann.KeyID() &&
				bytes.Equal(same.Signature, ann.Sign(manifest)) {
				continue // another way to write the same signature
			}
			require.ErrorIs(t, verifyPlain(t, changed), ErrInvalid, "%s, byte %d", name, i-at)
		}
	}
}

func verifyPlain(t *testing.T, plain []byte) error {
	t.Helper()
	var out bytes.Buffer
	packed, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
	require.NoError(t, err)
	_, err = packed.Write(plain)
	require.NoError(t, err)
	require.NoError(t, packed.Close())
	_, err = Verify(&out, 1000, trusted)
	return err
}

// Reading takes no more memory than we allow, whichever key signed: an archive that needs more is refused at its first bytes.
func TestArchiveThatAsksForMuchMemoryIsRefused(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	packed, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(64<<20), zstd.WithSingleSegment(false))
	require.NoError(t, err)
	_, err = packed.Write(make([]byte, 128<<20))
	require.NoError(t, err)
	require.NoError(t, packed.Close())
	_, err = Verify(&out, DefaultLimit, trusted)
	require.ErrorIs(t, err, ErrInvalid)
	require.ErrorContains(t, err, "window size")
}

func TestRevocations(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	js := bustest.New(t, bustest.Layout()).Client().JS
	none, err := Revoked(ctx, js)
	require.NoError(t, err)
	require.Empty(t, none)

	first := Revocation{Key: "a1", By: "ann", Reason: "stolen", At: time.Now().UTC().Truncate(time.Second)}
	require.NoError(t, Revoke(ctx, js, first))
	again := first
	again.By = "bob"
	require.NoError(t, Revoke(ctx, js, again))
	kv, err := js.KeyValue(ctx, bus.BucketControl)
	require.NoError(t, err)
	for key, value := range map[string]string{"revoked.b2": "not JSON", "revoked.c3": "{}", "of-a-test": "x"} {
		_, err = kv.PutString(ctx, key, value)
		require.NoError(t, err)
	}
	require.NoError(t, kv.Delete(ctx, "revoked.c3"))
	got, err := Revoked(ctx, js)
	require.NoError(t, err)
	require.Equal(t, Revocations{"a1": first, "b2": {Key: "b2"}}, got)
	require.NoError(t, got.Check("c3"))
	require.ErrorContains(t, got.Check("b2"), "revoked")
}

// What is announced is not signed, so it must not say anything else than what is.
func TestAnnouncementThatSaysOtherThings(t *testing.T) {
	t.Parallel()
	m := honest().manifest
	good := announcementOf(m)
	good.Seq, good.Object, good.Size, good.SHA256 = 7, "x", 8, strings.Repeat("0", 64)
	require.NoError(t, good.CheckManifest(m))
	for name, lie := range map[string]func(a *Announcement){
		"id":        func(a *Announcement) { a.ID = "other" },
		"from":      func(a *Announcement) { a.From = "1.1" },
		"to":        func(a *Announcement) { a.To = "1.1" },
		"note":      func(a *Announcement) { a.Note = "harmless" },
		"author":    func(a *Announcement) { a.Author = "ann" },
		"created":   func(a *Announcement) { a.Created = a.Created.Add(time.Hour) },
		"files":     func(a *Announcement) { a.Files++ },
		"deletions": func(a *Announcement) { a.Deletions++ },
		"bytes":     func(a *Announcement) { a.Bytes++ },
	} {
		a := good
		lie(&a)
		require.ErrorIs(t, a.CheckManifest(m), ErrInvalid, name)
	}
}
