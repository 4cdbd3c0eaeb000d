package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// errOtherHome keeps an agent from patching a directory that is OMFLOW_HOME no more.
var errOtherHome = errors.New("OMFLOW_HOME is another directory than when this agent started")

// openHome opens the directory that OMFLOW_HOME names or leads to now, under the name that it has itself: a link may lead elsewhere tomorrow.
func openHome(path string) (*os.Root, error) {
	path, err := filepath.Abs(path)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return nil, fmt.Errorf("open OMFLOW_HOME: %w", err)
	}
	home, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open OMFLOW_HOME: %w", err)
	}
	return home, nil
}

// sameHome fails with errOtherHome if OMFLOW_HOME is not the directory any more that this agent has opened: its link was switched to another release, or
// the directory was moved away. Which of the two is meant, nobody can tell.
func (f *follower) sameHome() error {
	was, err := f.home.Stat(".")
	if err != nil {
		return fmt.Errorf("look at OMFLOW_HOME: %w", err)
	}
	is, err := os.Stat(f.cfg.Home)
	if err == nil && os.SameFile(was, is) {
		return nil
	}
	f.giver.set(nil) // nothing of it is for others
	if err != nil {
		return fmt.Errorf("%w: it was %s, and now: %w", errOtherHome, f.home.Name(), err)
	}
	now, err := filepath.EvalSymlinks(f.cfg.Home)
	if err != nil {
		now = f.cfg.Home
	}
	return fmt.Errorf("%w: it was %s and is %s now", errOtherHome, f.home.Name(), now)
}
