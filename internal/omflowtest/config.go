package omflowtest

import (
	"os"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/logging"
)

// Config is the environment of the stand-in, of both the server and the runner.
type Config struct {
	logging.Config
	Faults

	DatabaseURL string `envconfig:"DATABASE_URL" desc:"the database that the workers use too"`
	Server      string `envconfig:"OMFLOWTEST_SERVER" desc:"name of this OMFLOW Server, written beside each effect; default host name"`
	Home        string `envconfig:"OMFLOW_HOME" desc:"directory of the server, with omflow/syscom/version.bin"`
	Listen      string `envconfig:"OMFLOWTEST_LISTEN" default:"127.0.0.1:8080" desc:"where the server listens"`
	Socket      string `envconfig:"WORKER_SOCKET" default:"/run/omflow-booster/worker.sock" desc:"local API of the worker"`

	PutAll     bool          `envconfig:"OMFLOWTEST_PUT_ALL" default:"false" desc:"the runner hands over each follow-up step with a put, as older ones do"`
	PutTimeout time.Duration `envconfig:"OMFLOWTEST_PUT_TIMEOUT" default:"2s" desc:"how long the server waits for the worker before it leaves the row to the reconciler"`
	StepMin    time.Duration `envconfig:"OMFLOWTEST_STEP_MIN" default:"0s" desc:"shortest time that a step takes"`
	StepMax    time.Duration `envconfig:"OMFLOWTEST_STEP_MAX" default:"0s" desc:"longest time that a step takes"`
}

// Validate checks what does not need anything outside the process, and fills in the name.
func (c *Config) Validate() error {
	if err := c.Config.Validate(); err != nil {
		return err
	}
	if err := c.Faults.Validate(); err != nil {
		return err
	}
	if err := config.Positive("OMFLOWTEST_PUT_TIMEOUT", c.PutTimeout); err != nil {
		return err
	}
	if c.StepMin < 0 || c.StepMax < c.StepMin {
		return &config.Error{
			Var: "OMFLOWTEST_STEP_MAX", Problem: c.StepMax.String() + " is shorter than OMFLOWTEST_STEP_MIN",
			Fix: "use OMFLOWTEST_STEP_MIN or longer",
		}
	}
	if c.Server == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "omflow"
		}
		c.Server = host
	}
	return nil
}
