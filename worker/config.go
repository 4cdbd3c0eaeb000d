package worker

import (
	"fmt"
	"runtime"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/logging"
)

const (
	maxSlots  = 512 // each is a process or a connection
	maxSocket = 107 // bytes of its path, as Linux has it
)

// Config is the worker's environment.
type Config struct {
	bus.ClientConfig
	logging.Config
	config.OMFLOWPython

	DatabaseURL string         `envconfig:"DATABASE_URL" desc:"the database that the OMFLOW Server uses: postgres://user:password@host/db; default: that of the settings in OMFLOW_HOME"`
	Name        string         `envconfig:"WORKER_NAME" desc:"name on the bus; default <host name>-<process id>"`
	Executor    string         `envconfig:"WORKER_EXECUTOR" default:"runner" desc:"runner (child processes) or http"`
	Order       string         `envconfig:"WORKER_ORDER" desc:"ticket: two steps of one ticket never run at the same time; the same on every server"`
	FlowLimits  map[string]int `envconfig:"WORKER_FLOW_LIMITS" desc:"<flow uuid>:2,*:8: so many steps of a flow run at the same time, on all servers together; *: each other flow; the same on every server"`
	Slots       int            `envconfig:"WORKER_SLOTS" default:"0" desc:"steps at the same time; 0 means one for each core"`
	Socket      string         `envconfig:"WORKER_SOCKET" default:"/run/omflow-booster/worker.sock" desc:"Unix socket of the local API"`
	HTTPURL     string         `envconfig:"WORKER_HTTP_URL" desc:"where the http executor posts steps"`

	MaxAttempts int           `envconfig:"WORKER_MAX_ATTEMPTS" default:"5" desc:"tries of a step before it goes to DEAD"`
	RetryBase   time.Duration `envconfig:"WORKER_RETRY_BASE" default:"2s" desc:"wait before the second try; doubles each time, 5m at most"`
	StepTimeout time.Duration `envconfig:"WORKER_STEP_TIMEOUT" default:"1h" desc:"a step that runs longer is ended and counts as failed"`
	StopTimeout time.Duration `envconfig:"WORKER_STOP_TIMEOUT" default:"30s" desc:"how long a stop waits for running steps before it ends them"`
	HistoryDays int           `envconfig:"WORKER_HISTORY_DAYS" default:"30" desc:"days that the step history is kept; 0 keeps it for ever"`
	Reconcile   time.Duration `envconfig:"WORKER_RECONCILE" default:"5s" desc:"how often rows without a message are looked for"`
	Home        string        `envconfig:"OMFLOW_HOME" desc:"directory of the OMFLOW Server; runners start in it, and what is not set here is taken from its settings"`
	Uploads     string        `envconfig:"WORKER_UPLOADS" desc:"directory of the server's uploaded files, which all servers share; default: that of the settings in OMFLOW_HOME"`
	// name of the agent that runs this worker; New takes it from OMFLOW_AGENT, which that agent sets
	Server        string `ignored:"true"`
	RunnerCommand string `envconfig:"WORKER_RUNNER_COMMAND" form:"command" desc:"program that executes steps; default <OMFLOW_PYTHON> -m omflow_booster.runner"`
}

// Validate checks what does not need anything outside the process, and fills in WORKER_SLOTS.
func (c *Config) Validate() error {
	if err := c.ClientConfig.Validate(); err != nil {
		return err
	}
	if err := c.Config.Validate(); err != nil {
		return err
	}
	if err := config.Name("WORKER_NAME", c.Name); err != nil {
		return err
	}
	for _, p := range []struct{ name, value string }{
		{"WORKER_SOCKET", c.Socket},
		{"OMFLOW_HOME", c.Home},
		{"WORKER_UPLOADS", c.Uploads},
		{"OMFLOW_PYTHON", c.Python},
	} {
		if err := config.Path(p.name, p.value); err != nil {
			return err
		}
	}
	if len(c.Socket) > maxSocket {
		return &config.Error{
			Var: "WORKER_SOCKET", Problem: fmt.Sprintf("%d bytes are too long for a socket", len(c.Socket)),
			Fix: fmt.Sprintf("use %d at most", maxSocket),
		}
	}
	if err := config.OneOf("WORKER_EXECUTOR", c.Executor, "runner", "http"); err != nil {
		return err
	}
	if err := config.OneOf("WORKER_ORDER", c.Order, "", "ticket"); err != nil {
		return err
	}
	for flow, limit := range c.FlowLimits {
		if err := config.Between("WORKER_FLOW_LIMITS", limit, 1, 10_000); err != nil || flow == "" {
			return &config.Error{
				Var: "WORKER_FLOW_LIMITS", Problem: fmt.Sprintf("%s:%d", flow, limit),
				Fix: "give each flow 1 or more steps, for example 8f14e45f:2,*:8",
			}
		}
	}
	if c.Executor == "http" && c.HTTPURL == "" {
		return &config.Error{Var: "WORKER_HTTP_URL", Problem: "not set", Fix: "WORKER_EXECUTOR=http needs the URL that takes the steps"}
	}
	if err := config.Between("WORKER_SLOTS", c.Slots, 0, maxSlots); err != nil {
		return err
	}
	if c.Slots == 0 {
		c.Slots = runtime.NumCPU()
	}
	if err := config.Between("WORKER_MAX_ATTEMPTS", c.MaxAttempts, 1, 1000); err != nil {
		return err
	}
	if err := config.Between("WORKER_HISTORY_DAYS", c.HistoryDays, 0, 36_500); err != nil {
		return err
	}
	if c.Reconcile < 100*time.Millisecond {
		return &config.Error{Var: "WORKER_RECONCILE", Problem: c.Reconcile.String() + " is too short", Fix: "use 100ms or more"}
	}
	if c.RetryBase > retryCeiling {
		return &config.Error{Var: "WORKER_RETRY_BASE", Problem: c.RetryBase.String() + " is too long", Fix: "use " + retryCeiling.String() +
			" or less"}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"WORKER_RETRY_BASE", c.RetryBase},
		{"WORKER_STEP_TIMEOUT", c.StepTimeout},
		{"WORKER_STOP_TIMEOUT", c.StopTimeout},
		{"WORKER_RECONCILE", c.Reconcile},
	} {
		if err := config.Positive(d.name, d.value); err != nil {
			return err
		}
	}
	return nil
}
