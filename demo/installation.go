package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/freeport"
	"github.com/omflow-booster/omflow-booster/internal/join"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest/fleet"
)

const (
	serverCount = 3
	slots       = 2
	oldVersion  = "1.1.4.0"
	newVersion  = "1.1.4.1"
)

// scope is how much of everything a story needs.
type scope struct {
	boosters, servers int
	settings          []string // of agents, beyond those of every demo
}

// settings that only a demo wants: it cannot wait as long as an installation should.
var serverHaste = []string{
	"WORKER_RECONCILE=1s", "WORKER_RETRY_BASE=500ms",
	"AGENT_HEALTH_INTERVAL=100ms", "AGENT_SETTLE=500ms", "AGENT_RESTART_MIN=500ms", "AGENT_STOP_TIMEOUT=10s",
	"OMFLOWTEST_STEP_MIN=2ms", "OMFLOWTEST_STEP_MAX=5ms",
}

// installation is the whole system: one Booster or two, and the hosts of the OMFLOW Servers, each in a directory of its own.
type installation struct {
	dir      string
	boosters []*booster
	servers  []*server

	self        string // program that everything is run with
	databaseURL string
	settings    []string // of agents
}

// server is one OMFLOW Server with its agent, which starts the server and the worker.
type server struct {
	name  string
	home  string
	env   []string // of its agent, and of commands that are typed on its host
	web   fleet.Server
	agent *process
}

// install prepares directories and settings and starts nothing. Of two Boosters the witness is beside the first server.
func install(ctx context.Context, dir string, db *database, sc scope) (*installation, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find own program: %w", err)
	}
	ports := make([]int, 2*sc.boosters+sc.servers+1)
	for i := range ports {
		if ports[i], err = freeport.Take(ctx); err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
	}
	take := func() int {
		port := ports[0]
		ports = ports[1:]
		return port
	}
	in := &installation{dir: dir, self: self, databaseURL: db.url, settings: sc.settings}
	if err := os.MkdirAll(in.logs(), 0o750); err != nil {
		return nil, err
	}
	keys, err := join.New("demo", time.Now())
	if err != nil {
		return nil, err
	}
	if err := keys.Create(in.joinFile()); err != nil {
		return nil, err
	}
	for i := range sc.boosters {
		in.boosters = append(in.boosters, &booster{name: "booster-" + strconv.Itoa(i+1), port: take(), clusterPort: take()})
	}
	for i := range sc.servers {
		s, err := in.addHost("server-"+strconv.Itoa(i+1), take())
		if err != nil {
			return nil, err
		}
		if err := writeVersion(s.home, oldVersion, "as it was installed"); err != nil {
			return nil, err
		}
	}
	if sc.boosters > 1 {
		in.servers[0].env = append(in.servers[0].env, "AGENT_WITNESS=on", "AGENT_WITNESS_PORT="+strconv.Itoa(take()))
	}
	return in, nil
}

// addHost prepares a host with an agent and an empty home.
func (in *installation) addHost(name string, port int) (*server, error) {
	host := filepath.Join(in.dir, name)
	s := &server{name: name, home: filepath.Join(host, "home")}
	listen := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	s.web = fleet.Server{Name: name, URL: "http://" + listen}
	if err := os.MkdirAll(s.home, 0o750); err != nil {
		return nil, err
	}
	s.env = environment(in.address()...)
	s.env = append(s.env,
		"BOOSTER_JOIN_FILE="+in.joinFile(), "DATABASE_URL="+in.databaseURL,
		"AGENT_NAME="+name, "AGENT_DATA_DIR="+filepath.Join(host, "agent"),
		"OMFLOW_HOME="+s.home, "OMFLOW_COMMAND="+quoted(in.self, standIn, "server"), "OMFLOW_HEALTH_URL="+s.web.URL+"/health/",
		"WORKER_SOCKET="+filepath.Join(host, "worker.sock"), "WORKER_SLOTS="+strconv.Itoa(slots),
		"WORKER_RUNNER_COMMAND="+quoted(in.self, standIn, "runner"),
		"OMFLOWTEST_SERVER="+name, "OMFLOWTEST_LISTEN="+listen,
	)
	s.env = append(append(s.env, serverHaste...), in.settings...)
	in.servers = append(in.servers, s)
	return s, nil
}

func (in *installation) logs() string { return filepath.Join(in.dir, "logs") }

// joinFile is that of every host: on each, patches may be published.
func (in *installation) joinFile() string { return filepath.Join(in.dir, "join.json") }

func (in *installation) startAgents() error {
	for _, s := range in.servers {
		if err := in.startAgent(s); err != nil {
			return err
		}
	}
	return nil
}

func (in *installation) startAgent(s *server) (err error) {
	s.agent, err = start(s.name, in.logs(), s.env, "agent")
	return err
}

// command runs a command of the product as somebody types it on the host of a server, and returns what it prints.
func (in *installation) command(ctx context.Context, s *server, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, in.self, args...)
	cmd.Env = s.env
	var failed strings.Builder
	cmd.Stderr = &failed
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("omflow-booster %s: %w: %s%s", strings.Join(args, " "), err, out, failed.String())
	}
	return out, nil
}

// processes are those that were started, in the order in which they are stopped: who needs the Booster goes first.
func (in *installation) processes() []*process {
	var list []*process
	for _, s := range in.servers {
		if s.agent != nil {
			list = append(list, s.agent)
		}
	}
	for _, b := range in.boosters {
		if b.process != nil {
			list = append(list, b.process)
		}
	}
	return list
}

// failure says which process has ended by itself.
func (in *installation) failure() error {
	var errs []error
	for _, p := range in.processes() {
		errs = append(errs, p.failure())
	}
	return errors.Join(errs...)
}

// stop ends everything: the agents at the same time, the Boosters last.
func (in *installation) stop() {
	agents := in.processes()
	for _, b := range in.boosters {
		if b.process != nil {
			b.thaw() // what is frozen cannot end in order
			agents = agents[:len(agents)-1]
			defer b.stop()
		}
	}
	for _, p := range agents {
		p.end()
	}
	for _, p := range agents {
		p.stop()
	}
}

// webs are the web processes of all servers.
func (in *installation) webs() (all []fleet.Server) {
	for _, s := range in.servers {
		all = append(all, s.web)
	}
	return all
}

// writeVersion makes a directory look like an OMFLOW Server of a version, or like a patch to it: the version file and one more.
func writeVersion(dir, version, text string) error {
	return writeFiles(dir, map[string]string{
		omflowtest.VersionFile:        "version=" + version + "\n",
		"omflow/templates/about.html": "<p>" + text + "</p>\n",
	})
}

// writeFiles writes files below a directory, and the directories that they need.
func writeFiles(dir string, files map[string]string) error {
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// quoted writes a command line for OMFLOW_COMMAND and WORKER_RUNNER_COMMAND: the path may have blanks.
func quoted(path string, args ...string) string {
	line := "'" + path + "'"
	for _, a := range args {
		line += " " + a
	}
	return line
}
