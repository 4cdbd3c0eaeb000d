// Package logging builds the one zerolog logger of a process and names the keys that all services share.
package logging

import (
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/config"
)

// Keys of structured log fields. Payloads and secrets are never logged.
const (
	Service = "service" // booster, worker, agent
	Node    = "node"    // name of this node on the bus
	Work    = "work"    // identity of a queue item: q<row> or o<row>
	Ticket  = "key"     // ticket of a queue item
	Flow    = "flow"    // flow of a queue item
	Attempt = "attempt" // which try of a step, from 1
	Patch   = "patch"   // id of a patch
	Child   = "child"   // supervised process: server, worker, runner-1, …
	PID     = "pid"
)

// Config is part of every service's configuration.
type Config struct {
	Level  string `envconfig:"LOG_LEVEL" default:"info" desc:"debug, info, warn or error"`
	Format string `envconfig:"LOG_FORMAT" default:"auto" desc:"json or console; auto is console on a terminal and json elsewhere"`
}

// Validate reports a level or format that does not exist.
func (c Config) Validate() error {
	if err := config.OneOf("LOG_LEVEL", c.Level, "debug", "info", "warn", "error"); err != nil {
		return err
	}
	return config.OneOf("LOG_FORMAT", c.Format, "auto", "json", "console")
}

// New returns the process logger, which writes to out (standard error in every service).
func New(c Config, out *os.File, service string) zerolog.Logger {
	level, err := zerolog.ParseLevel(c.Level)
	if err != nil {
		level = zerolog.InfoLevel
	}
	var w io.Writer = out
	if c.Format == "console" || (c.Format != "json" && isTerminal(out)) {
		w = zerolog.ConsoleWriter{Out: out, TimeFormat: time.TimeOnly}
	}
	return zerolog.New(w).Level(level).With().Timestamp().Str(Service, service).Logger()
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
