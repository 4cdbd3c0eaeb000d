package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
)

const (
	serverCount = 3
	slots       = 2
	oldVersion  = "1.1.4.0"
	newVersion  = "1.1.4.1"
)

// settings that only a demo wants: it cannot wait as long as an installation should.
var boosterHaste = []string{
	"BOOSTER_LEASE=4s", // after which the steps of the killed worker come again
	"BOOSTER_STORE_MB=512",
}

var serverHaste = []string{
	"WORKER_RECONCILE=1s", "WORKER_RETRY_BASE=500ms",
	"AGENT_HEALTH_INTERVAL=100ms", "AGENT_RESTART_MIN=500ms", "AGENT_STOP_TIMEOUT=10s",
	"OMFLOWTEST_STEP_MIN=2ms", "OMFLOWTEST_STEP_MAX=5ms",
}

// installation is the whole system: a Booster and the hosts of three OMFLOW Servers, each in a directory of its own.
type installation struct {
	dir     string
	port    int // of the Booster
	booster *process
	servers []*server
}

// server is one OMFLOW Server with its agent, which starts the server and the worker.
type server struct {
	name  string
	home  string
	env   []string // of its agent, and of commands that are typed on its host
	web   string   // URL of the server
	agent *process
}

// install prepares directories and settings and starts nothing.
func install(ctx context.Context, dir string, db *database) (*installation, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find own program: %w", err)
	}
	ports, err := freePorts(ctx, 1+serverCount)
	if err != nil {
		return nil, err
	}
	in := &installation{dir: dir, port: ports[0]}
	if err := os.MkdirAll(in.logs(), 0o750); err != nil {
		return nil, err
	}
	for i := range serverCount {
		name := "server-" + strconv.Itoa(i+1)
		host := filepath.Join(dir, name)
		s := &server{name: name, home: filepath.Join(host, "home")}
		listen := net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[1+i]))
		s.web = "http://" + listen
		if err := writeVersion(s.home, oldVersion, "as it was installed"); err != nil {
			return nil, err
		}
		s.env = environment(append([]string{
			"BOOSTER_IP=127.0.0.1", "BOOSTER_PORT=" + strconv.Itoa(in.port), "DATABASE_URL=" + db.url,
			"AGENT_NAME=" + name, "AGENT_DATA_DIR=" + filepath.Join(host, "agent"),
			"OMFLOW_HOME=" + s.home, "OMFLOW_COMMAND=" + quoted(self, standIn, "server"), "OMFLOW_HEALTH_URL=" + s.web + "/health/",
			"WORKER_SOCKET=" + filepath.Join(host, "worker.sock"), "WORKER_SLOTS=" + strconv.Itoa(slots),
			"WORKER_RUNNER_COMMAND=" + quoted(self, standIn, "runner"),
			"OMFLOWTEST_SERVER=" + name, "OMFLOWTEST_LISTEN=" + listen,
		}, serverHaste...)...)
		in.servers = append(in.servers, s)
	}
	return in, nil
}

func (in *installation) logs() string { return filepath.Join(in.dir, "logs") }

// url is where the Booster is, for the nats command line.
func (in *installation) url() string { return "nats://127.0.0.1:" + strconv.Itoa(in.port) }

func (in *installation) startBooster() (err error) {
	in.booster, err = start("booster", in.logs(), environment(append([]string{
		"BOOSTER_IP=127.0.0.1", "BOOSTER_PORT=" + strconv.Itoa(in.port), "BOOSTER_NAME=booster",
		"BOOSTER_DATA_DIR=" + filepath.Join(in.dir, "booster"),
	}, boosterHaste...)...), "broker")
	return err
}

func (in *installation) startAgents() (err error) {
	for _, s := range in.servers {
		if s.agent, err = start(s.name, in.logs(), s.env, "agent"); err != nil {
			return err
		}
	}
	return nil
}

// processes are those that were started, in the order in which they are stopped: who needs the Booster goes first.
func (in *installation) processes() []*process {
	var list []*process
	for _, s := range in.servers {
		if s.agent != nil {
			list = append(list, s.agent)
		}
	}
	if in.booster != nil {
		list = append(list, in.booster)
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

// stop ends everything: the agents at the same time, the Booster last.
func (in *installation) stop() {
	var agents []*process
	for _, p := range in.processes() {
		if p != in.booster {
			agents = append(agents, p)
		}
	}
	for _, p := range agents {
		p.end()
	}
	for _, p := range agents {
		p.stop()
	}
	if in.booster != nil {
		in.booster.stop()
	}
}

// writeVersion makes a directory look like an OMFLOW Server of a version, or like a patch to it: the version file and one more.
func writeVersion(dir, version, text string) error {
	for name, content := range map[string]string{
		omflowtest.VersionFile:        "version=" + version + "\n",
		"omflow/templates/about.html": "<p>" + text + "</p>\n",
	} {
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
