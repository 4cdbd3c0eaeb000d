package agent

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/preflight"
)

const preflightTimeout = 30 * time.Second // a Python that starts on a busy host

// preflight looks whether this host has what server, worker and witness need, before any of them is started. It returns a
// *config.Error for what cannot work. What only does harm some day is a warning: a server that runs is worth more than a tidy host.
func (a *Agent) preflight(ctx context.Context, log zerolog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, preflightTimeout)
	defer cancel()
	if err := a.checkPython(ctx, log); err != nil {
		return err
	}
	if err := a.checkWitnessPort(ctx, log); err != nil {
		return err
	}
	for _, d := range []struct{ name, path string }{{"OMFLOW_HOME", a.cfg.Home}, {"AGENT_DATA_DIR", a.cfg.DataDir}} {
		free, _, err := preflight.Space(ctx, d.path)
		if err == nil && free < preflight.LowSpace {
			log.Warn().Str("variable", d.name).Str("directory", d.path).Str("free", humanize.IBytes(free)).
				Msg("disk is nearly full: patches and logs may find no room; make some")
		}
	}
	if err := preflight.Writable(a.cfg.Home); err != nil {
		log.Warn().Err(err).Msg("OMFLOW_HOME cannot be written: no patch can be applied; give the agent's user the right to write there")
	}
	return nil
}

// checkPython looks at the Python of a home that is an OMFLOW Server's.
func (a *Agent) checkPython(ctx context.Context, log zerolog.Logger) error {
	if _, err := os.Stat(filepath.Join(a.cfg.Home, "manage.py")); errors.Is(err, fs.ErrNotExist) {
		return nil // whatever runs there, it is not started with Python
	}
	version, err := preflight.Python(ctx, a.cfg.Python, a.cfg.Home)
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		log.Warn().Str("python", a.cfg.Python).Msg("OMFLOW_PYTHON does not tell its version in time; going on")
	case err != nil:
		return &config.Error{
			Var: "OMFLOW_PYTHON", Problem: a.cfg.Python + " --version: " + err.Error(),
			Fix: "set it to the Python of the OMFLOW Server",
		}
	case !version.Enough():
		return &config.Error{
			Var: "OMFLOW_PYTHON", Problem: a.cfg.Python + " is Python " + version.String(),
			Fix: preflight.PythonNeeded + ": set it to the Python of the OMFLOW Server",
		}
	default:
		log.Debug().Str("python", a.cfg.Python).Stringer("version", version).Msg("Python found")
	}
	return nil
}

// checkWitnessPort looks whether a witness could listen here. With auto nobody counts on this host, and one that has a Booster on that port
// will not be asked.
func (a *Agent) checkWitnessPort(ctx context.Context, log zerolog.Logger) error {
	if a.cfg.Witness == "off" || len(a.deps.WitnessCommand) == 0 {
		return nil
	}
	switch err := preflight.Port(ctx, a.cfg.WitnessPort); {
	case err == nil || ctx.Err() != nil:
	case a.cfg.Witness == "on":
		return &config.Error{
			Var: "AGENT_WITNESS_PORT", Problem: err.Error(), Fix: "end the program that has the port, choose another one, or set AGENT_WITNESS=auto",
		}
	case !a.besideABooster(ctx):
		log.Warn().Err(err).Int("port", a.cfg.WitnessPort).
			Msg("AGENT_WITNESS_PORT is taken: this host cannot be the witness of two Boosters; end the program that has it, choose another " +
				"port, or set AGENT_WITNESS=off")
	}
	return nil //nolint:nilerr // a port that is taken was a warning, or is none of our business
}

// besideABooster tells whether a Booster has the port of the witness, by the addresses that this agent looks for Boosters at.
func (a *Agent) besideABooster(ctx context.Context) bool {
	return (a.cfg.Port == a.cfg.WitnessPort && preflight.Here(ctx, a.cfg.ClientConfig.IP)) ||
		(a.cfg.SecondPort == a.cfg.WitnessPort && preflight.Here(ctx, a.cfg.SecondIP))
}
