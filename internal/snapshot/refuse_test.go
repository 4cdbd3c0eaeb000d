package snapshot

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever byte of a snapshot flips, and wherever it is cut off: it is refused before the bus is touched. A flip that changes nothing of
// what is read (a letter's case in a JSON name, say) may pass.
func TestDamageIsFoundFirst(t *testing.T) {
	t.Parallel()
	before := fresh(t).Client()
	fill(t, before.JS)
	dir, m := taken(t, before.JS)
	file := packedFile(t, dir)
	bus := fresh(t).Client()
	publish(t, bus.JS, "mine", 3, 10)
	kept := see(t, bus.JS)
	random := rand.New(rand.NewPCG(7, 7))

	refused, passed := 0, 0
	attempt := func(what string, open func() (Source, error)) {
		src, err := open()
		if err == nil {
			if err = src.Verify(); err == nil {
				require.Equal(t, m.SHA256, src.Manifest().SHA256, what) // covers all of it but how its JSON is spaced
				passed++
			} else {
				_, restored := Restore(t.Context(), bus.JS, src, RestoreOptions{Force: true})
				require.ErrorIs(t, restored, ErrInvalid, what)
			}
			require.NoError(t, src.Close())
		}
		if err != nil {
			require.ErrorIs(t, err, ErrInvalid, what)
			refused++
		}
	}
	damage := func(name string, tries int, open func() (Source, error)) {
		good, err := os.ReadFile(name)
		require.NoError(t, err)
		for range tries {
			bad := append([]byte{}, good...)
			at, bit := random.IntN(len(bad)), random.IntN(8)
			bad[at] ^= 1 << bit
			require.NoError(t, os.WriteFile(name, bad, 0o600))
			attempt(filepath.Base(name)+" flipped", open)
			require.NoError(t, os.WriteFile(name, good[:at], 0o600))
			attempt(filepath.Base(name)+" cut", open)
		}
		require.NoError(t, os.WriteFile(name, append(append([]byte{}, good...), 'x'), 0o600))
		attempt(filepath.Base(name)+" longer", open)
		require.NoError(t, os.Remove(name))
		require.NoError(t, os.WriteFile(name, good, 0o600))
	}
	damage(file, 40, func() (Source, error) { return OpenFile(file) })
	openDir := func() (Source, error) { return OpenDir(dir) }
	damage(filepath.Join(dir, manifestName), 40, openDir)
	for _, s := range m.Streams {
		damage(filepath.Join(dir, s.File), 4, openDir)
		require.NoError(t, os.Rename(filepath.Join(dir, s.File), filepath.Join(dir, "away")))
		attempt(s.File+" missing", openDir)
		require.NoError(t, os.Rename(filepath.Join(dir, "away"), filepath.Join(dir, s.File)))
	}
	require.Greater(t, refused, 25*passed, "%d refused, %d passed", refused, passed)
	equal(t, kept, see(t, bus.JS))
	for _, open := range []func() (Source, error){openDir, func() (Source, error) { return OpenFile(file) }} {
		src, err := open()
		require.NoError(t, err)
		require.NoError(t, src.Verify(), "the originals are good")
		require.NoError(t, src.Close())
	}
}

func TestManifestsThatAreNotBelieved(t *testing.T) {
	t.Parallel()
	good := Manifest{Format: Format, ID: "x", Streams: []Stream{{Name: "A", File: "streams/01-A.s2", Config: json.RawMessage(`{"name":"A"}`)}}}
	for says, spoil := range map[string]func(m *Manifest){
		"newer omflow-booster":           func(m *Manifest) { m.Format = Format + 1 },
		"no format":                      func(m *Manifest) { m.Format = 0 },
		"no id":                          func(m *Manifest) { m.ID = "" },
		"does not fit its name":          func(m *Manifest) { m.Streams[0].Name = "B" },
		`"streams/../../etc/passwd" is`:  func(m *Manifest) { m.Streams[0].File = "streams/../../etc/passwd" },
		`"/streams/x" is no name`:        func(m *Manifest) { m.Streams[0].File = "/streams/x" },
		`"streams/a\\b" is no name`:      func(m *Manifest) { m.Streams[0].File = `streams/a\b` },
		"is there twice":                 func(m *Manifest) { m.Streams = append(m.Streams, m.Streams[0]) },
		"was changed or is damaged":      func(m *Manifest) { m.SHA256 = "x" },
		"stream A is there twice":        func(m *Manifest) { m.Streams[0].Size = -1 },
		"configuration of stream \"A\" ": func(m *Manifest) { m.Streams[0].Config = json.RawMessage(`7`) },
	} {
		m := good
		m.Streams = append([]Stream{}, good.Streams...)
		spoil(&m)
		forged := m.SHA256
		data, err := m.encode()
		require.NoError(t, err)
		if forged != "" {
			data = []byte(strings.Replace(string(data), m.SHA256, forged, 1))
		}
		_, err = decodeManifest(data)
		require.ErrorIs(t, err, ErrInvalid, says)
		require.ErrorContains(t, err, says)
	}
	data, err := good.encode()
	require.NoError(t, err)
	_, err = decodeManifest(data)
	require.NoError(t, err)
	_, err = decodeManifest([]byte(`{"format":2,"streams":"something else"}`))
	require.ErrorContains(t, err, "newer omflow-booster")
}

func TestPackRefusesWhatIsThere(t *testing.T) {
	t.Parallel()
	c := fresh(t).Client()
	dir, _ := taken(t, c.JS)
	out := filepath.Join(t.TempDir(), "b.tar.zst")
	require.NoError(t, os.WriteFile(out, []byte("mine"), 0o644))
	_, err := Pack(t.Context(), dir, out, false)
	require.ErrorIs(t, err, ErrExists)
	_, err = Pack(t.Context(), dir, filepath.Dir(out), true)
	require.ErrorContains(t, err, "not a regular file")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Pack(ended, dir, out, true)
	require.ErrorIs(t, err, context.Canceled)
	data, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, "mine", string(data))
	entries, err := os.ReadDir(filepath.Dir(out))
	require.NoError(t, err)
	require.Len(t, entries, 1, "no temporary file is left")

	size, err := Pack(t.Context(), dir, out, true)
	require.NoError(t, err)
	info, err := os.Stat(out)
	require.NoError(t, err)
	require.Equal(t, size, info.Size())
	require.EqualValues(t, 0o600, info.Mode().Perm(), "steps carry what people typed")
}
