package patch

import (
	"archive/tar"
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever is wrong with an artifact: it is said in words that name it, and the home is what it was, to the byte.
func TestBadArtifactIsRefusedAndHomeUntouched(t *testing.T) {
	t.Parallel()
	path := func(name string) func(c *craft) {
		return func(c *craft) { c.add(name, "x") }
	}
	for name, bad := range map[string]struct {
		spoil func(c *craft)
		says  string
	}{
		"absolute path":         {path("/etc/passwd"), "absolute"},
		"parent directory":      {path("omflow/../../etc/passwd"), "plain path"},
		"dot":                   {path("omflow/./x.py"), "plain path"},
		"double slash":          {path("omflow//x.py"), "plain path"},
		"control character":     {path("omflow/x\n.py"), "cannot be printed"},
		"empty path":            {func(c *craft) { c.manifest.Deletions = []string{""} }, "empty path"},
		"very long path":        {path(strings.Repeat("x", 2000)), "longer than"},
		"settings":              {path("omflow/settings.py"), "never patched"},
		"settings in capitals":  {path("OMFLOW/Settings.PY"), "never patched"},
		"logs":                  {path("logs/a.log"), "never patched"},
		"uploads":               {path("uploads/a/b.png"), "never patched"},
		"database":              {path("db.omflow"), "never patched"},
		"cache":                 {path("omflow/__pycache__/x.py"), "never patched"},
		"compiled":              {path("omflow/x.pyc"), "never patched"},
		"deletes settings":      {func(c *craft) { c.manifest.Deletions = []string{"omflow/settings.py"} }, "never patched"},
		"deletes outside":       {func(c *craft) { c.manifest.Deletions = []string{"../x"} }, "plain path"},
		"same path twice":       {path("omflow/a.py"), "twice"},
		"writes and deletes":    {func(c *craft) { c.manifest.Deletions = []string{"omflow/a.py"} }, "twice"},
		"file is directory too": {path("omflow/a.py/x"), "is a file and the directory"},
		"id is a path":          {func(c *craft) { c.manifest.ID = "../x" }, "not the id"},
		"setuid":                {func(c *craft) { c.manifest.Files[0].Mode = 0o4755 }, "only permission bits"},
		"nothing in it":         {func(c *craft) { c.manifest.Files, c.entries, c.contents = nil, nil, nil }, "no files"},
		"negative size":         {func(c *craft) { c.manifest.Files[0].Size = -1 }, "larger than"},
		"no digest":             {func(c *craft) { c.manifest.Files[0].SHA256 = "" }, "sha256"},
		"wrong digest":          {func(c *craft) { c.manifest.Files[1].SHA256 = digest("other") }, "instead of"},
		"wrong size":            {func(c *craft) { c.manifest.Files[1].Size++ }, "6 in the manifest"},
		"symbolic link":         {func(c *craft) { link(c, tar.TypeSymlink) }, "link or device"},
		"hard link":             {func(c *craft) { link(c, tar.TypeLink) }, "link or device"},
		"device":                {func(c *craft) { link(c, tar.TypeChar) }, "link or device"},
		"missing file":          {func(c *craft) { c.entries = c.entries[:1] }, "missing"},
		"additional file":       {func(c *craft) { c.entry("omflow/c.py", "c") }, "does not name"},
		"other order":           {func(c *craft) { c.entries[0], c.entries[1] = c.entries[1], c.entries[0] }, "where its manifest says"},
		"data after the end":    {func(c *craft) { c.tail = []byte("x") }, "after its end"},
		"bomb after the end":    {func(c *craft) { c.tail = make([]byte, 64<<20) }, "more data"},
		"unknown restart":       {func(c *craft) { c.manifest.Hooks.Restart = "host" }, "possible are none, runners, server"},
		"pip reads outside":     {func(c *craft) { c.manifest.Hooks.Pip = "../requirements.txt" }, "requirements for pip: "},
		"pip reads uploads":     {func(c *craft) { c.manifest.Hooks.Pip = "uploads/requirements.txt" }, "never patched"},
		"pip reads what goes": {
			func(c *craft) { c.manifest.Hooks.Pip, c.manifest.Deletions = "r.txt", []string{"R.txt"} },
			"deleted by the patch itself",
		},
		"migrate in place": {
			func(c *craft) { c.manifest.Hooks = Hooks{Migrate: true, Restart: RestartNone} },
			"migrate goes with restart server, not none",
		},
		"pip below a server": {
			func(c *craft) { c.manifest.Hooks = Hooks{Pip: "r.txt", Restart: RestartRunners} },
			"pip goes with restart server, not runners",
		},
		"too large": {func(c *craft) { c.add("big", strings.Repeat("x", 1000)) }, "larger than 1000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home := homeOf(t, map[string]string{"omflow/a.py": "old a", "omflow/settings.py": "mine"})
			before := snapshot(t, home.Name())
			c := honest()
			bad.spoil(c)
			_, err := apply(t, home, c.bytes(t), 1000)
			require.ErrorIs(t, err, ErrInvalid)
			require.ErrorContains(t, err, bad.says)
			require.Equal(t, before, snapshot(t, home.Name()))
		})
	}
}

func link(c *craft, kind byte) {
	c.entries[1].Typeflag, c.entries[1].Linkname, c.entries[1].Size = kind, "/etc/passwd", 0
	c.manifest.Files[1].Size = 0
}

func TestHonestArtifactIsTaken(t *testing.T) {
	t.Parallel()
	home := homeOf(t, nil)
	done, err := apply(t, home, honest().bytes(t), 1000)
	require.NoError(t, err)
	require.Equal(t, Report{Written: Written{Files: 2, Bytes: 10}}, done)
}

// A damaged artifact is refused for good; a medium that fails is not the artifact's fault.
func TestDamagedArtifactAndFailingMedium(t *testing.T) {
	t.Parallel()
	good := honest().bytes(t)
	for at := range good {
		damaged := bytes.Clone(good)
		damaged[at] ^= 0x20
		if m, err := Verify(bytes.NewReader(damaged), 1000, trusted); err == nil {
			require.Equal(t, honest().manifest.Files, m.Files, "bit %d", at) // flags of the frame that mean nothing
		} else {
			require.ErrorIs(t, err, ErrInvalid, "bit %d", at)
		}
		_, err := Verify(bytes.NewReader(good[:at]), 1000, trusted)
		require.ErrorIs(t, err, ErrInvalid, "cut at %d", at)

		_, err = Verify(io.MultiReader(bytes.NewReader(good[:at]), failing{}), 1000, trusted)
		require.ErrorIs(t, err, errMedium)
		require.NotErrorIs(t, err, ErrInvalid)
	}
	_, err := Verify(bytes.NewReader(append(bytes.Clone(good), "garbage"...)), 1000, trusted)
	require.ErrorIs(t, err, ErrInvalid)
}

var errMedium = errors.New("disk on fire")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errMedium }

func TestHomeInWhichThePatchHasNoPlace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(t *testing.T, home, outside string)
		says    string
	}{
		"directory leads outside": {func(t *testing.T, home, outside string) {
			require.NoError(t, os.RemoveAll(filepath.Join(home, "omflow")))
			require.NoError(t, os.Symlink(outside, filepath.Join(home, "omflow")))
		}, "symbolic link"},
		"directory leads to the logs": {func(t *testing.T, home, _ string) {
			require.NoError(t, os.RemoveAll(filepath.Join(home, "omflow")))
			require.NoError(t, os.Mkdir(filepath.Join(home, "logs"), 0o755))
			require.NoError(t, os.Symlink("logs", filepath.Join(home, "omflow")))
		}, "symbolic link"},
		"file is a link": {func(t *testing.T, home, outside string) {
			require.NoError(t, os.Remove(filepath.Join(home, "omflow/a.py")))
			require.NoError(t, os.Symlink(filepath.Join(outside, "b.py"), filepath.Join(home, "omflow/a.py")))
		}, "not a regular file"},
		"file is a directory with more in it": {func(t *testing.T, home, _ string) {
			require.NoError(t, os.Mkdir(filepath.Join(home, "omflow/b.py"), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(home, "omflow/b.py/notes.txt"), nil, 0o644))
		}, "omflow/b.py is a directory on this server and has omflow/b.py/notes.txt, which the patch does not delete"},
		"file is a directory with a link in it": {func(t *testing.T, home, outside string) {
			require.NoError(t, os.Mkdir(filepath.Join(home, "omflow/b.py"), 0o755))
			require.NoError(t, os.Symlink(outside, filepath.Join(home, "omflow/b.py/link")))
		}, "has omflow/b.py/link"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home := homeOf(t, map[string]string{"omflow/a.py": "old a"})
			outside := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(outside, "b.py"), []byte("foreign"), 0o644))
			c.prepare(t, home.Name(), outside)
			before, foreign := snapshot(t, home.Name()), snapshot(t, outside)
			_, err := apply(t, home, honest().bytes(t), 1000)
			require.ErrorIs(t, err, ErrInvalid)
			require.ErrorContains(t, err, c.says)
			require.Equal(t, before, snapshot(t, home.Name()))
			require.Equal(t, foreign, snapshot(t, outside))
		})
	}
}

// Head needs the beginning of an artifact only, and takes it from nobody who is not trusted.
func TestHeadReadsTheManifestAlone(t *testing.T) {
	t.Parallel()
	large := make([]byte, 16<<20)
	_, _ = rand.Read(large)
	artifact, m := build(t, map[string]string{"omflow/large.bin": string(large)}, Options{})
	in := bytes.NewReader(artifact)
	head, err := Head(in, DefaultLimit, trusted)
	require.NoError(t, err)
	require.Equal(t, m.ID, head.ID)
	require.Greater(t, in.Len(), len(artifact)/2, "left to read")
	_, err = Head(bytes.NewReader(artifact), DefaultLimit, func(string, []byte, []byte) error { return errors.New("nobody") })
	require.ErrorIs(t, err, ErrInvalid)
}
