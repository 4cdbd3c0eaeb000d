package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// errOtherHome keeps an agent from patching a directory that is OMFLOW_HOME no more.
var errOtherHome = errors.New("OMFLOW_HOME is another directory than when this agent started")

// homeDir is the directory of the OMFLOW Server. It stays the same directory when OMFLOW_HOME leads elsewhere.
type homeDir struct {
	*os.Root
	path string // OMFLOW_HOME
}

// openHome opens the directory that OMFLOW_HOME names or leads to now, under the name that it has itself: a link may lead elsewhere
// tomorrow.
func openHome(path string) (*homeDir, error) {
	full, err := filepath.Abs(path)
	if err == nil {
		full, err = filepath.EvalSymlinks(full)
	}
	if err != nil {
		return nil, fmt.Errorf("open OMFLOW_HOME: %w", err)
	}
	root, err := os.OpenRoot(full)
	if err != nil {
		return nil, fmt.Errorf("open OMFLOW_HOME: %w", err)
	}
	return &homeDir{Root: root, path: path}, nil
}

// version is that of the OMFLOW Server, as its files are now.
func (h *homeDir) version() string { return patch.HomeVersion(h.FS()) }

// same fails with errOtherHome if OMFLOW_HOME is not the directory any more that this agent has opened: somebody has switched its link
// to another release, or moved the directory away. The agent cannot tell which of the two is meant.
func (h *homeDir) same() error {
	was, err := h.Stat(".")
	if err != nil {
		return fmt.Errorf("look at OMFLOW_HOME: %w", err)
	}
	is, err := os.Stat(h.path)
	if err == nil && os.SameFile(was, is) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: it was %s, and now: %w", errOtherHome, h.Name(), err)
	}
	now, err := filepath.EvalSymlinks(h.path)
	if err != nil {
		now = h.path
	}
	return fmt.Errorf("%w: it was %s and is %s now", errOtherHome, h.Name(), now)
}

// lacksSettings tells whether the home has no omflow/settings.py of its own.
func (h *homeDir) lacksSettings() (bool, error) {
	_, err := h.Stat(patch.SettingsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}
