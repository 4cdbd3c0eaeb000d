package agent

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// validateOutside refuses places of our own inside the home, whose files go to all servers: they hold a private key, patches
// under way, and logs that never rest. Where no patch ever comes from, such as logs/, they may be.
func (c *Config) validateOutside() error {
	home := withoutLinks(c.Home)
	for _, own := range []struct{ name, path string }{
		{"AGENT_DATA_DIR", c.DataDir},
		{"AGENT_LOG_DIR", c.LogDir},
		{"BOOSTER_JOIN_FILE", c.JoinFile},
		{"WORKER_SOCKET", os.Getenv("WORKER_SOCKET")},
	} {
		if own.path == "" || own.name == "AGENT_LOG_DIR" && own.path == logsOff {
			continue
		}
		below, err := filepath.Rel(home, withoutLinks(own.path))
		if err != nil || !filepath.IsLocal(below) || patch.IsLocal(filepath.ToSlash(below)) {
			continue
		}
		return &config.Error{
			Var: own.name, Problem: fmt.Sprintf("%s is inside OMFLOW_HOME (%s), whose files are those of all servers", own.path, c.Home),
			Fix: "name a place outside of it",
		}
	}
	return nil
}

// withoutLinks is a path without links, as far as it exists.
func withoutLinks(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	if there, err := filepath.EvalSymlinks(path); err == nil {
		return there
	}
	if dir := filepath.Dir(path); dir != path {
		return filepath.Join(withoutLinks(dir), filepath.Base(path))
	}
	return path
}
