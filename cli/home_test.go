package cli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/config"
)

// serverHome makes a home with settings, and a program in the place of its Python.
func serverHome(t *testing.T, python string) {
	t.Helper()
	home := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(home, "omflow"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(home, "omflow", "settings.py"), nil, 0o600))
	program := filepath.Join(home, "python")
	require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\n"+python+"\n"), 0o755))
	t.Setenv("OMFLOW_HOME", home)
	t.Setenv("OMFLOW_PYTHON", program)
	for _, name := range []string{"DATABASE_URL", "BOOSTER_IP", "BOOSTER_PORT"} {
		t.Setenv(name, "")
	}
}

func TestSettingsOfTheServerFillTheEnvironment(t *testing.T) {
	serverHome(t,
		`[ "$*" = "-m omflow_booster.environment" ] && [ -e omflow/settings.py ] &&
			echo '{"DATABASE_URL":"postgres://db/omflow","BOOSTER_PORT":"5"}'`)
	t.Setenv("BOOSTER_PORT", "6")
	require.NoError(t, adoptSettings(t.Context(), "BOOSTER_PORT"))
	require.Empty(t, os.Getenv("DATABASE_URL"), "what is needed is there, so nothing is read")
	require.NoError(t, adoptSettings(t.Context(), "BOOSTER_PORT", "DATABASE_URL"))
	require.Equal(t, "postgres://db/omflow", os.Getenv("DATABASE_URL"))
	require.Equal(t, "6", os.Getenv("BOOSTER_PORT"), "the environment wins")
}

func TestSettingsThatCannotBeRead(t *testing.T) {
	for _, python := range []string{"echo 'No module named omflow_booster' >&2; exit 1", "echo nonsense"} {
		serverHome(t, python)
		var wrong *config.Error
		require.ErrorAs(t, adoptSettings(t.Context(), "DATABASE_URL"), &wrong)
		require.Equal(t, "DATABASE_URL", wrong.Var)
		require.Contains(t, wrong.Problem, os.Getenv("OMFLOW_PYTHON"))
	}
	serverHome(t, "exit 1")
	require.NoError(t, os.Remove(filepath.Join(os.Getenv("OMFLOW_HOME"), "omflow", "settings.py")))
	require.NoError(t, adoptSettings(t.Context(), "DATABASE_URL"), "a home of something else")
}
