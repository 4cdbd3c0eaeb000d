// Package doctor checks one host: its settings, and everything that they lead to.
package doctor

import (
	"context"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
)

// Host looks at one host: its settings, and what they lead to.
type Host struct {
	settings settings
	engines  []sqldb.Engine
	dial     func() (*bus.Client, error)
}

// New looks with these variables, which the services know as configs.
func New(environ []string, configs []any, engines []sqldb.Engine, dial func() (*bus.Client, error)) Host {
	return Host{settings: readSettings(environ, configs), engines: engines, dial: dial}
}

// Examine runs every check; one that fails does not keep the next from running.
func (d Host) Examine(ctx context.Context) []diagnosis.Finding {
	var findings []diagnosis.Finding
	for _, check := range []func(context.Context) []diagnosis.Finding{
		d.environment, d.booster, d.database, d.workerSocket, d.disk, d.python,
	} {
		findings = append(findings, check(ctx)...)
	}
	return findings
}

// booster checks the way to the Booster and what it holds.
func (d Host) booster(ctx context.Context) []diagnosis.Finding { return diagnosis.Booster(ctx, d.dial) }
