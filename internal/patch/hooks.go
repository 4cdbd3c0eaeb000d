package patch

import (
	"fmt"
	"slices"
	"strings"
)

// Hooks is what there is to do on a server besides putting files into place.
type Hooks struct {
	Migrate bool   `json:"migrate"` // bring the database up to date, once in the whole system
	Pip     string `json:"pip"`     // file of Python requirements to install, relative to the home; empty: none
	Restart string `json:"restart"` // one of Restarts; empty: RestartServer
}

// What is restarted for a patch.
const (
	RestartNone    = "none"    // nothing: files that the server reads each time
	RestartRunners = "runners" // the worker with its runners
	RestartServer  = "server"  // the worker and the server
)

// Restarts are the values of Hooks.Restart.
var Restarts = []string{RestartNone, RestartRunners, RestartServer}

// Restarted is what is restarted: one of Restarts.
func (h Hooks) Restarted() string {
	if h.Restart == "" {
		return RestartServer
	}
	return h.Restart
}

// checkHooks refuses what no agent can do, or what would leave a server on code that does not fit.
func (m Manifest) checkHooks() error {
	h := m.Hooks
	if !slices.Contains(Restarts, h.Restarted()) {
		return invalid("restart is %q; possible are %s", h.Restart, strings.Join(Restarts, ", "))
	}
	if h.Pip != "" {
		if err := checkPath(h.Pip); err != nil {
			return fmt.Errorf("requirements for pip: %w", err)
		}
		if slices.ContainsFunc(m.Deletions, func(name string) bool { return strings.EqualFold(name, h.Pip) }) {
			return invalid("requirements for pip: %s is deleted by the patch itself", h.Pip)
		}
	}
	switch {
	case h.Restarted() == RestartServer:
	case h.Migrate:
		return invalid("migrate goes with restart %s, not %s: the running server would meet tables of another version", RestartServer, h.Restart)
	case h.Pip != "":
		return invalid("pip goes with restart %s, not %s: the running server would load packages of another version beside those that it has",
			RestartServer, h.Restart)
	}
	return nil
}
