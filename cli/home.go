package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/plugin"
)

// adoptSettings lets a worker or agent know what the OMFLOW Server beside it knows: each variable that is not set is taken from
// the settings in OMFLOW_HOME, which Python reads. Nothing is read when all of needed are set. The environment wins over the
// settings.
//
// It returns a *config.Error that names the first variable of needed if the settings cannot be read; nil if there are none.
func adoptSettings(ctx context.Context, needed ...string) error {
	home := os.Getenv("OMFLOW_HOME")
	missing := ""
	for _, name := range needed {
		if missing == "" && os.Getenv(name) == "" {
			missing = name
		}
	}
	if missing == "" || home == "" {
		return nil
	}
	if _, err := os.Stat(filepath.Join(home, "omflow", "settings.py")); err != nil {
		return nil //nolint:nilerr // not the home of an OMFLOW Server with the plugin: the environment is all there is
	}
	python := os.Getenv("OMFLOW_PYTHON")
	if python == "" {
		python = "python3"
	}
	found, err := plugin.Settings(ctx, python, home)
	if err != nil {
		return &config.Error{
			Var:     missing,
			Problem: fmt.Sprintf("not set, and %s -m omflow_booster.environment in %s fails: %v", python, home, err),
			Fix:     "set it, or install the plugin for that Python (see plugin/README.md)",
		}
	}
	for name, value := range found {
		if os.Getenv(name) == "" {
			if err := os.Setenv(name, value); err != nil {
				return fmt.Errorf("take %s from the settings in %s: %w", name, home, err)
			}
		}
	}
	return nil
}
