package agent

import (
	"fmt"
	"net/url"
	"os"
	"runtime"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/join"
	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/supervise"
	"github.com/omflow-booster/omflow-booster/internal/tree"
)

// provisionSettings is AGENT_PROVISION of a server that gives its settings, too.
const provisionSettings = "settings"

// Config is the agent's environment.
type Config struct {
	bus.ClientConfig
	logging.Config
	ServerConfig
	DataConfig
	WitnessConfig
	ProcessConfig
	FilesConfig
	PatchConfig
	LogConfig
}

// ServerConfig says which OMFLOW Server the agent runs.
type ServerConfig struct {
	config.OMFLOWPython // runs the hooks of a patch

	Home      string   `envconfig:"OMFLOW_HOME" desc:"directory of the OMFLOW Server; required"`
	Command   string   `envconfig:"OMFLOW_COMMAND" form:"command" desc:"command line that runs the OMFLOW Server in the foreground; empty: the agent starts no server"`
	HealthURL string   `envconfig:"OMFLOW_HEALTH_URL" desc:"answers 2xx when the OMFLOW Server is up; empty: it is up when it keeps running"`
	command   []string // Command in words
}

// DataConfig says who the agent is.
type DataConfig struct {
	DataDir string `envconfig:"AGENT_DATA_DIR" default:"/var/lib/omflow-booster-agent" desc:"the agent's name, ledger of patches and artifacts under way"`
	Name    string `envconfig:"AGENT_NAME" desc:"name on the bus; default <host name>-<4 random characters>, kept in AGENT_DATA_DIR"`
	Worker  string `envconfig:"AGENT_WORKER" default:"on" desc:"on: run a worker beside the server; off: do not"`
}

// WitnessConfig says whether the agent may run the third vote of two Boosters.
type WitnessConfig struct {
	IP            string `envconfig:"AGENT_IP" desc:"address of this host for the Boosters; default the one that it reaches them from"`
	Witness       string `envconfig:"AGENT_WITNESS" default:"auto" desc:"run the third vote of two Boosters: auto (if appointed, not on a Booster's host), on (if appointed), off"`
	WitnessListen string `envconfig:"AGENT_WITNESS_LISTEN" desc:"IP address that the witness listens on, if it is not AGENT_IP: behind a router, in a container; 0.0.0.0 or :: for all"`
	WitnessPort   int    `envconfig:"AGENT_WITNESS_PORT" default:"5169" desc:"port of the witness, open to the Boosters"`
}

// ProcessConfig says how long server and worker may take.
type ProcessConfig struct {
	StopTimeout   time.Duration `envconfig:"AGENT_STOP_TIMEOUT" default:"45s" desc:"how long worker and server each have to stop before they are killed"`
	HealthTimeout time.Duration `envconfig:"AGENT_HEALTH_TIMEOUT" default:"1m" desc:"how long the server may take to become healthy"`
	HealthEvery   time.Duration `envconfig:"AGENT_HEALTH_INTERVAL" default:"1s" desc:"how often OMFLOW_HEALTH_URL is asked while the server starts"`
	Settle        time.Duration `envconfig:"AGENT_SETTLE" default:"3s" desc:"how long the server has to stay healthy with a patch before the patch counts as good"`
	RestartMin    time.Duration `envconfig:"AGENT_RESTART_MIN" default:"1s" desc:"pause before the first restart of a server or worker that ended; doubles each time"`
	RestartMax    time.Duration `envconfig:"AGENT_RESTART_MAX" default:"1m" desc:"longest pause; who ran for so long starts over with the first"`
}

// FilesConfig says what becomes of files that are changed here, or that a new server needs.
type FilesConfig struct {
	Provision  string        `envconfig:"AGENT_PROVISION" default:"on" desc:"on: an empty OMFLOW_HOME gets the files of another server if OMFLOW_COMMAND is set, and an empty one elsewhere those of this one; settings: and gives omflow/settings.py, with the password of the database, sealed to hosts that sign; off: neither"`
	Watch      string        `envconfig:"AGENT_WATCH" default:"publish" desc:"files that are changed in the home: publish (to all servers, if the join file may sign), report, off"`
	WatchQuiet time.Duration `envconfig:"AGENT_WATCH_QUIET" default:"5s" desc:"how long changed files have to rest before they are published"`
	WatchEvery time.Duration `envconfig:"AGENT_WATCH_INTERVAL" default:"1m" desc:"how often the home is read for changes that nobody was told of"`
	Ignore     []string      `envconfig:"AGENT_IGNORE" desc:"files of the home that belong to this server alone, as patterns of a .gitignore: *.cache,static/generated/,!keep.log"`
	ignore     tree.Ignore   // Ignore and the built-in rules
}

// PatchConfig says how often the agent looks for patches, and how long their hooks may take.
type PatchConfig struct {
	HookTimeout time.Duration `envconfig:"AGENT_HOOK_TIMEOUT" default:"10m" desc:"how long pip and migrate of a patch may each take before the patch is taken back"`
	PatchEvery  time.Duration `envconfig:"AGENT_PATCH_INTERVAL" default:"10s" desc:"how often the agent looks for patches that it was not told of"`
	PatchRetry  time.Duration `envconfig:"AGENT_PATCH_RETRY" default:"2s" desc:"pause before a patch is tried again; doubles each time, 1m at most"`
}

// LogConfig says where the output of server and worker goes.
type LogConfig struct {
	LogDir  string `envconfig:"AGENT_LOG_DIR" desc:"directory for what server and worker write; default <AGENT_DATA_DIR>/logs, off: no files"`
	LogSize string `envconfig:"AGENT_LOG_SIZE" default:"10MB" desc:"size from which a new file is begun"`
	LogKeep int    `envconfig:"AGENT_LOG_KEEP" default:"5" desc:"former files that are kept of each"`
	logSize int64  // LogSize in bytes
}

// Validate checks what needs no more than a look at the machine.
func (c *Config) Validate() error {
	if err := c.ClientConfig.Validate(); err != nil {
		return err
	}
	if err := c.Config.Validate(); err != nil {
		return err
	}
	if err := c.validatePlaces(); err != nil {
		return err
	}
	if c.JoinFile != "" {
		if _, err := join.Load(c.JoinFile); err != nil {
			return err
		}
	}
	if err := c.validateServer(); err != nil {
		return err
	}
	if c.DataDir == "" {
		return &config.Error{Var: "AGENT_DATA_DIR", Problem: "not set", Fix: "name a directory that the agent may write to"}
	}
	if err := config.OneOf("AGENT_WORKER", c.Worker, "on", "off"); err != nil {
		return err
	}
	if err := config.OneOf("AGENT_WITNESS", c.Witness, "auto", "on", "off"); err != nil {
		return err
	}
	if err := config.OneOf("AGENT_PROVISION", c.Provision, "on", provisionSettings, "off"); err != nil {
		return err
	}
	if err := config.OneOf("AGENT_WATCH", c.Watch, watchPublish, watchReport, watchOff); err != nil {
		return err
	}
	var err error
	if c.ignore, err = tree.NewIgnore(c.Ignore); err != nil {
		return &config.Error{Var: "AGENT_IGNORE", Problem: err.Error(), Fix: "separate patterns by commas"}
	}
	if err := config.Port("AGENT_WITNESS_PORT", c.WitnessPort); err != nil {
		return err
	}
	if err := c.validateLogs(); err != nil {
		return err
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"AGENT_STOP_TIMEOUT", c.StopTimeout},
		{"AGENT_HEALTH_TIMEOUT", c.HealthTimeout},
		{"AGENT_HEALTH_INTERVAL", c.HealthEvery},
		{"AGENT_SETTLE", c.Settle},
		{"AGENT_RESTART_MIN", c.RestartMin},
		{"AGENT_RESTART_MAX", c.RestartMax},
		{"AGENT_WATCH_QUIET", c.WatchQuiet},
		{"AGENT_WATCH_INTERVAL", c.WatchEvery},
		{"AGENT_PATCH_INTERVAL", c.PatchEvery},
		{"AGENT_PATCH_RETRY", c.PatchRetry},
		{"AGENT_HOOK_TIMEOUT", c.HookTimeout},
	} {
		if err := config.Positive(d.name, d.value); err != nil {
			return err
		}
	}
	if c.RestartMax < c.RestartMin {
		return &config.Error{
			Var: "AGENT_RESTART_MAX", Problem: fmt.Sprintf("%s is less than AGENT_RESTART_MIN, %s", c.RestartMax, c.RestartMin),
			Fix: "give the longest pause",
		}
	}
	return c.validateOutside()
}

// validatePlaces checks names, addresses and paths.
func (c *Config) validatePlaces() error {
	if err := config.Name("AGENT_NAME", c.Name); err != nil {
		return err
	}
	var err error
	if c.WitnessConfig.IP, err = config.Host("AGENT_IP", c.WitnessConfig.IP); err != nil {
		return err
	}
	if c.WitnessListen, err = config.Address("AGENT_WITNESS_LISTEN", c.WitnessListen); err != nil {
		return err
	}
	for _, p := range []struct{ name, value string }{
		{"OMFLOW_HOME", c.Home}, {"OMFLOW_PYTHON", c.Python}, {"AGENT_DATA_DIR", c.DataDir}, {"AGENT_LOG_DIR", c.LogDir},
	} {
		if err := config.Path(p.name, p.value); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) validateServer() error {
	if c.Home == "" {
		return &config.Error{Var: "OMFLOW_HOME", Problem: "not set", Fix: "set it to the directory of the OMFLOW Server, the one with manage.py"}
	}
	switch info, err := os.Stat(c.Home); {
	case err != nil:
		return &config.Error{Var: "OMFLOW_HOME", Problem: err.Error(), Fix: "set it to the directory of the OMFLOW Server"}
	case !info.IsDir():
		return &config.Error{Var: "OMFLOW_HOME", Problem: c.Home + " is not a directory", Fix: "set it to the directory of the OMFLOW Server"}
	}
	var err error
	if c.command, err = supervise.Split(c.Command, runtime.GOOS == "windows"); err != nil {
		return &config.Error{Var: "OMFLOW_COMMAND", Problem: err.Error(), Fix: "write it as in a shell"}
	}
	if c.HealthURL == "" {
		return nil
	}
	if u, err := url.Parse(c.HealthURL); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return &config.Error{
			Var: "OMFLOW_HEALTH_URL", Problem: fmt.Sprintf("%q is not an HTTP URL", c.HealthURL),
			Fix: "use for example http://127.0.0.1:8000/",
		}
	}
	return nil
}
