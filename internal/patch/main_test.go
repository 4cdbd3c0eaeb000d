package patch

import (
	"archive/tar"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/leaktest"
)

// TestMain lets the test binary play an agent that is killed while it applies a patch: life HOME DATA ARTIFACT WAY OP N.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "life" {
		if err := playLife(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	leaktest.Main(m)
}

// homeOf makes the home of a server from paths and contents.
func homeOf(t *testing.T, files map[string]string) *os.Root {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		full := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(full), 0o755))
		require.NoError(t, os.WriteFile(full, []byte(content), 0o644))
	}
	home, err := os.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = home.Close() })
	return home
}

// open returns the journal of a home in a data directory.
func open(t *testing.T, home *os.Root, data string, before Before) *Journal {
	t.Helper()
	root, err := os.OpenRoot(data)
	require.NoError(t, err)
	t.Cleanup(func() { _ = root.Close() })
	j, err := Open(home, root, before)
	require.NoError(t, err)
	return j
}

// apply brings an artifact into a home whose server is healthy with it. It returns what the report counts.
func apply(t *testing.T, home *os.Root, artifact []byte, limit int64) (Report, error) {
	t.Helper()
	j := open(t, home, t.TempDir(), nil)
	if err := j.Stage(bytes.NewReader(artifact), limit, Report{}); err != nil {
		require.Equal(t, Idle, j.Phase())
		return Report{}, err
	}
	require.NoError(t, j.Switch())
	r := j.Report()
	require.NoError(t, j.Commit())
	require.NoError(t, j.End())
	return Report{Written: Written{Files: r.Files, Bytes: r.Bytes, Deleted: r.Deleted}}, nil
}

// snapshot is everything that is to see of a directory: names, modes, contents, links.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	seen := make(map[string]string)
	require.NoError(t, filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		require.NoError(t, err)
		info, err := entry.Info()
		require.NoError(t, err)
		content := ""
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(name)
			require.NoError(t, err)
			content = string(data)
		case info.Mode()&fs.ModeSymlink != 0:
			content, err = os.Readlink(name)
			require.NoError(t, err)
		}
		rel, err := filepath.Rel(dir, name)
		require.NoError(t, err)
		seen[filepath.ToSlash(rel)] = info.Mode().String() + " " + content
		return nil
	}))
	return seen
}

// tree is a directory of files to build a patch from.
func tree(files map[string]string) fstest.MapFS {
	dir := fstest.MapFS{}
	for name, content := range files {
		dir[name] = &fstest.MapFile{Data: []byte(content), Mode: 0o644}
	}
	return dir
}

// signer is a key that a test signs with.
type signer byte

// Keys of the tests.
const (
	ann signer = iota + 1 // trusted
	eve                   // unknown
)

func (s signer) key() ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(s)}, ed25519.SeedSize))
}

func (s signer) KeyID() string               { return map[signer]string{ann: "ann", eve: "eve"}[s] }
func (s signer) Sign(manifest []byte) []byte { return ed25519.Sign(s.key(), manifest) }

// trusted takes what ann signed.
func trusted(keyID string, manifest, signature []byte) error {
	switch {
	case keyID != ann.KeyID():
		return fmt.Errorf("%s is unknown", keyID)
	case !ed25519.Verify(ann.key().Public().(ed25519.PublicKey), manifest, signature):
		return errors.New("bad signature")
	}
	return nil
}

func build(t *testing.T, files map[string]string, o Options) ([]byte, Manifest) {
	t.Helper()
	o.Signer = ann
	var out bytes.Buffer
	m, err := Build(&out, tree(files), o)
	require.NoError(t, err)
	return out.Bytes(), m
}

func digest(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

// craft is an artifact that Build would never write.
type craft struct {
	manifest Manifest
	entries  []*tar.Header
	contents []string
	tail     []byte // after the end of the archive, compressed with it

	raw    []byte                                      // instead of the manifest
	signer Signer                                      // nil: the artifact has no signature
	forge  func(manifest, sig []byte) (string, []byte) // another entry in the place of the signature
}

// honest is a craft without fault, for a test to spoil.
func honest() *craft {
	c := &craft{signer: ann, manifest: Manifest{Format: Format, ID: "20260101-000000-test", Created: time.Unix(0, 0).UTC()}}
	c.add("omflow/a.py", "new a")
	c.add("omflow/b.py", "new b")
	return c
}

func (c *craft) add(name, content string) {
	c.manifest.Files = append(c.manifest.Files, File{Path: name, Mode: 0o644, Size: int64(len(content)), SHA256: digest(content)})
	c.entry(name, content)
}

func (c *craft) entry(name, content string) {
	c.entries = append(c.entries, header(filesPrefix+name, len(content)))
	c.contents = append(c.contents, content)
}

func header(name string, size int) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(size), Format: tar.FormatPAX}
}

func (c *craft) bytes(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	packed, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
	require.NoError(t, err)
	archive := tar.NewWriter(packed)
	data, err := json.Marshal(c.manifest)
	require.NoError(t, err)
	if c.raw != nil {
		data = c.raw
	}
	name := signatureEntry
	var sig []byte
	if c.signer != nil {
		sig, err = json.Marshal(signature{c.signer.KeyID(), c.signer.Sign(data)})
		require.NoError(t, err)
	}
	if c.forge != nil {
		name, sig = c.forge(data, sig)
	}
	write := func(h *tar.Header, content []byte) {
		require.NoError(t, archive.WriteHeader(h))
		if h.Typeflag == tar.TypeReg {
			_, err = archive.Write(content)
			require.NoError(t, err)
		}
	}
	write(header(manifestEntry, len(data)), data)
	if sig != nil {
		write(header(name, len(sig)), sig)
	}
	for i, h := range c.entries {
		write(h, []byte(c.contents[i]))
	}
	require.NoError(t, archive.Close())
	_, err = packed.Write(c.tail)
	require.NoError(t, err)
	require.NoError(t, packed.Close())
	return out.Bytes()
}
