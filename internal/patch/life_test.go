package patch

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// way is a course that a patch can take. Together they pass by every operation that there is.
type way struct {
	name      string
	healthy   bool // the server, with the patch
	undone    bool // the switch fails at its end
	linkless  bool // the file system has no hard links
	compiles  bool // the server leaves compiled files in new directories
	endsAsNew bool
}

var ways = []way{
	{name: "kept", healthy: true, endsAsNew: true},
	{name: "kept with copies", healthy: true, linkless: true, endsAsNew: true},
	{name: "rolled back", compiles: true},
	{name: "rolled back to copies", linkless: true},
	{name: "undone", undone: true},
}

func wayOf(name string) way {
	for _, w := range ways {
		if w.name == name {
			return w
		}
	}
	panic("no way " + name)
}

var (
	errNoLinks = errors.New("this file system has no links")
	errSwitch  = errors.New("the switch fails")
	oldFiles   = map[string]string{
		"omflow/a.py": "old", "omflow/same.py": "same", "omflow/mode.sh": "same", "omflow/gone.py": "x", "omflow/sub/gone.txt": "y",
		VersionFile:          "version=1\n",
		"omflow/becomes/dir": "a file", "omflow/dir/a.py": "a", "omflow/dir/deep/er/b.py": "b", "omflow/dir/deep/__pycache__/b.pyc": "compiled",
	}
	outcomeFile   = "outcome" // stands in for the ledger of the agent
	compiledFiles = []string{"omflow/new/dir/__pycache__/b.cpython-312.pyc", "omflow/becomes/dir/in/__pycache__/x.cpython-312.pyc"}
)

// scene is a home, a data directory and a patch that replaces, adds and deletes files, makes directories, changes a mode, and
// makes a directory of a file and a file of a directory.
func scene(t *testing.T) (home *os.Root, data string, artifact []byte) {
	t.Helper()
	home = homeOf(t, oldFiles)
	require.NoError(t, home.Chmod("omflow/a.py", 0o600))
	require.NoError(t, os.Symlink("omflow", filepath.Join(home.Name(), "link")))
	files := tree(map[string]string{
		"omflow/same.py": "same", "omflow/new/dir/b.py": "b", "bin/run.sh": string(bytes.Repeat([]byte("#\n"), 20_000)),
		VersionFile: "version=2\n", "omflow/becomes/dir/__init__.py": "a package", "omflow/becomes/dir/in/it.py": "deep",
		"omflow/dir": "a file now",
	})
	files["omflow/a.py"] = &fstest.MapFile{Data: []byte("new"), Mode: 0o640}
	files["omflow/mode.sh"] = &fstest.MapFile{Data: []byte("same"), Mode: 0o755}
	var out bytes.Buffer
	_, err := Build(&out, files, Options{Signer: ann, Deletions: []string{
		"omflow/gone.py", "omflow/sub/gone.txt", "omflow/never.py", "omflow/becomes/dir", "omflow/dir/a.py", "omflow/dir/deep/er/b.py",
	}})
	require.NoError(t, err)
	return home, t.TempDir(), out.Bytes()
}

// life is that of an agent which finds an artifact: it applies it, and settles what became of it. It does as the agent does, but
// gives up at an error that stays.
func life(home, data *os.Root, artifact []byte, w way, before Before) error {
	hook := func(op, name string) error {
		if w.linkless && op == "back up link" {
			return errNoLinks
		}
		if w.undone && op == "switch sync directory" {
			return errSwitch
		}
		if before == nil {
			return nil
		}
		return before(op, name)
	}
	j, err := Open(home, data, hook)
	if err != nil {
		return err
	}
	if j.Phase() == Idle && artifact != nil {
		if err := j.Stage(bytes.NewReader(artifact), DefaultLimit, Report{From: "1"}); err != nil {
			return err
		}
		if err := j.Switch(); err != nil {
			return errors.Join(err, j.recover(home, data, w))
		}
		if w.compiles {
			for _, name := range compiledFiles {
				if err := errors.Join(home.MkdirAll(filepath.Dir(name), 0o755), home.WriteFile(name, nil, 0o644)); err != nil {
					return err
				}
			}
		}
	}
	return j.recover(home, data, w)
}

// recover brings a patch that is under way to its end, as the agent does.
func (j *Journal) recover(home, data *os.Root, w way) (err error) {
	switch {
	case j.Phase() == Switched && w.healthy:
		err = j.Commit()
	case j.Phase() == Switched:
		err = j.Restore("not healthy")
	case j.Phase() != Idle && j.Phase() != Committed:
		err = j.Restore("")
	}
	if err != nil {
		return err
	}
	if state := j.Report().State; state != "" {
		if HomeVersion(home.FS()) != j.Report().To {
			return fmt.Errorf("the report says %q and the home has %q", j.Report().To, HomeVersion(home.FS()))
		}
		if err := data.WriteFile(outcomeFile, []byte(state), 0o600); err != nil {
			return err
		}
	}
	return j.End()
}

// operation is the n-th one of its kind.
type operation struct {
	op string
	n  int
}

func (o operation) String() string { return fmt.Sprintf("%s:%d", o.op, o.n) }

// recordLife runs a whole life and returns its operations in their order.
func recordLife(t *testing.T, w way) (list []operation) {
	t.Helper()
	home, data, artifact := scene(t)
	seen := make(map[string]int)
	err := life(home, rootOf(t, data), artifact, w, func(op, _ string) error {
		seen[op]++
		list = append(list, operation{op, seen[op]})
		return nil
	})
	if w.undone {
		require.ErrorIs(t, err, errSwitch)
	} else {
		require.NoError(t, err)
	}
	return list
}

// at calls then before the operation.
func (o operation) at(then func() error) Before {
	left := o.n
	return func(op, _ string) error {
		if op == o.op {
			if left--; left == 0 {
				return then()
			}
		}
		return nil
	}
}

func rootOf(t *testing.T, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = root.Close() })
	return root
}

// versions are what the home of the scene looks like before and after the patch.
func versions(t *testing.T) (before, after map[string]string) {
	t.Helper()
	home, data, artifact := scene(t)
	before = snapshot(t, home.Name())
	require.NoError(t, life(home, rootOf(t, data), artifact, ways[0], nil))
	return before, snapshot(t, home.Name())
}

// settled checks that the home is in one version, that nothing lies around, and that the outcome says which version it is.
func settled(t *testing.T, home *os.Root, data string, before, after map[string]string) (isNew bool) {
	t.Helper()
	outcome, _ := os.ReadFile(filepath.Join(data, outcomeFile))
	if isNew = string(outcome) == StateApplied; isNew {
		require.Equal(t, after, snapshot(t, home.Name()))
	} else {
		require.Equal(t, before, snapshot(t, home.Name()))
	}
	entries, err := os.ReadDir(data)
	require.NoError(t, err)
	for _, e := range entries {
		require.Equal(t, outcomeFile, e.Name(), "left in the data directory")
	}
	return isNew
}

// playLife is a life that kills itself; see TestMain.
func playLife(args []string) error {
	home, err := os.OpenRoot(args[0])
	if err != nil {
		return err
	}
	data, err := os.OpenRoot(args[1])
	if err != nil {
		return err
	}
	artifact, err := os.ReadFile(args[2])
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(args[5])
	if err != nil {
		return err
	}
	return life(home, data, artifact, wayOf(args[3]), operation{args[4], n}.at(func() error {
		self, err := os.FindProcess(os.Getpid())
		if err != nil {
			return err
		}
		return self.Kill()
	}))
}
