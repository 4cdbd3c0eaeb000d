package agent

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"

	"github.com/omflow-booster/omflow-booster/internal/atomicfile"
	"github.com/omflow-booster/omflow-booster/internal/config"
)

// What is in the data directory.
const (
	lockFile     = "agent.lock"    // held by the agent that runs
	pidFile      = "agent.pid"     // its process id, for the message to a second one
	identityFile = "identity.json" // name and id, chosen once
	ledgerFile   = "patches.json"  // what became of every patch
	revokedFile  = "revoked.json"  // keys that may not sign patches any more
	treeFile     = "tree.json"     // how the files of the home should be
	stagingDir   = "patches"       // artifacts under way
	revertDir    = "undo"          // ways back from the last patches
	inboxDir     = "inbox"         // artifacts that somebody puts there to have them published

	// In stagingDir, instead of a patch's id: what is stored from here.
	outgoing     = "outgoing"
	outgoingHome = "outgoing-home"
)

// dataDir is the directory that belongs to one running agent.
type dataDir struct {
	path string
	lock *flock.Flock
}

// openDataDir makes the directory and claims it. It returns a *config.Error if the directory cannot be written, or belongs to
// an agent that is running.
func openDataDir(path string) (*dataDir, error) {
	unusable := func(err error) error {
		return &config.Error{Var: "AGENT_DATA_DIR", Problem: err.Error(), Fix: "name a directory that the agent may write to"}
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, unusable(err)
	}
	if err := os.MkdirAll(filepath.Join(path, stagingDir), 0o700); err != nil {
		return nil, unusable(err)
	}
	lock := flock.New(filepath.Join(path, lockFile))
	switch ok, err := lock.TryLock(); {
	case err != nil:
		return nil, unusable(err)
	case !ok:
		pid, _ := os.ReadFile(filepath.Join(path, pidFile))
		return nil, &config.Error{
			Var:     "AGENT_DATA_DIR",
			Problem: fmt.Sprintf("%s is used by the agent with process id %s", path, strings.TrimSpace(string(pid))),
			Fix:     "stop that agent, or give this one a directory of its own",
		}
	}
	d := &dataDir{path: path, lock: lock}
	d.sweep()
	_ = atomicfile.Write(d.pidPath(), fmt.Appendln(nil, os.Getpid()), 0o600) // a full disk keeps no server from being started
	return d, nil
}

// sweep removes what an agent that was killed while it wrote has left: artifacts that did not get their names.
func (d *dataDir) sweep() {
	for _, dir := range []string{stagingDir, revertDir} {
		unfinished, _ := filepath.Glob(filepath.Join(d.path, dir, ".*.tar.zst.*"))
		for _, name := range unfinished {
			_ = os.Remove(name)
		}
	}
}

func (d *dataDir) close() {
	_ = os.Remove(d.pidPath())
	_ = d.lock.Unlock()
}

func (d *dataDir) pidPath() string { return filepath.Join(d.path, pidFile) }

// artifact is where the artifact of a patch is staged.
func (d *dataDir) artifact(patchID string) string {
	return filepath.Join(d.path, stagingDir, patchID+".tar.zst")
}

// inbox is where people put artifacts.
func (d *dataDir) inbox() string { return filepath.Join(d.path, inboxDir) }

// identity tells this agent from all others, for as long as the data directory lives.
type identity struct {
	Name string `json:"name"` // on the bus, unless AGENT_NAME says otherwise
	ID   string `json:"id"`   // marks the processes that it starts
}

func (d *dataDir) identity() (identity, error) {
	var who identity
	if err := d.load(identityFile, &who); err != nil || who.ID != "" {
		return who, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "agent"
	}
	random := strings.ToLower(rand.Text())
	who = identity{Name: host + "-" + random[:4], ID: random[4:]}
	return who, d.save(identityFile, who)
}

// load reads a JSON file; one that is not there yet leaves v as it is.
func (d *dataDir) load(name string, v any) error {
	data, err := os.ReadFile(filepath.Join(d.path, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", filepath.Join(d.path, name), err)
	}
	return nil
}

func (d *dataDir) save(name string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	return atomicfile.Write(filepath.Join(d.path, name), append(data, '\n'), 0o600)
}
