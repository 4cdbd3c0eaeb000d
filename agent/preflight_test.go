package agent

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/config"
)

// refused runs an agent that must not start, and returns what is wrong.
func (n *node) refused() *config.Error {
	n.t.Helper()
	a, err := New(n.cfg, Deps{Client: n.client, WitnessCommand: []string{os.Args[0], "witness"}}, zerolog.New(n.log))
	require.NoError(n.t, err)
	var wrong *config.Error
	require.ErrorAs(n.t, a.Run(n.t.Context()), &wrong)
	require.Empty(n.t, n.events(), "nothing was started")
	return wrong
}

func TestServerNeedsItsPython(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	python := filepath.Join(t.TempDir(), "python")
	says := func(version string) {
		require.NoError(t, os.WriteFile(python, []byte("#!/bin/sh\necho "+version+"\n"), 0o700))
	}
	n.cfg.Python = python
	n.write("manage.py", "")
	require.Equal(t, "OMFLOW_PYTHON", n.refused().Var, "there is none")
	says("Python 3.6.9")
	require.EqualError(t, n.refused(), "OMFLOW_PYTHON: "+python+" is Python 3.6.9; OMFLOW needs 3.7.7 or newer: set it to the Python of "+
		"the OMFLOW Server")
	says("Python 3.7.7")
	n.start()
	n.stop()
	// A home without manage.py needs none.
	require.NoError(t, os.Remove(filepath.Join(n.cfg.Home, "manage.py")))
	says("Python 2.7.18")
	n.start()
}

func TestPortOfTheWitnessIsTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	n := newNode(t, newBus(t), "srv1")
	log := &syncBuffer{}
	n.log = log
	n.cfg.WitnessPort = l.Addr().(*net.TCPAddr).Port
	n.cfg.Witness = "on"
	require.Equal(t, "AGENT_WITNESS_PORT", n.refused().Var)
	for _, c := range []struct {
		witness, booster string
		warns            bool
	}{
		{"auto", "192.0.2.1", true},
		{"auto", "127.0.0.1", false}, // that Booster has the port
		{"off", "192.0.2.1", false},
	} {
		log.reset()
		n.cfg.Witness, n.cfg.ClientConfig.IP, n.cfg.Port = c.witness, c.booster, n.cfg.WitnessPort
		n.start()
		n.stop()
		require.Equal(t, c.warns, log.contains("AGENT_WITNESS_PORT is taken"), "%+v: %s", c, log)
	}
}

// What only does harm some day keeps no server down.
func TestHomeThatMayNotBeWrittenIsAWarning(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	log := &syncBuffer{}
	n.log = log
	python := filepath.Join(t.TempDir(), "python")
	require.NoError(t, os.WriteFile(python, []byte("#!/bin/sh\nmv \""+n.cfg.Home+"\" \""+n.cfg.Home+".away\"\necho Python 3.7.7\n"), 0o700))
	n.cfg.Python, n.cfg.Command, n.cfg.HealthURL, n.cfg.Worker = python, "", "", "off"
	n.write("manage.py", "")
	t.Cleanup(func() { _ = os.RemoveAll(n.cfg.Home + ".away") })
	n.start() // root may write everywhere, but not where nothing is
	require.True(t, log.contains("OMFLOW_HOME cannot be written"), "%s", log)
}

func TestPythonThatHangsKeepsNoServerDown(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	a := &Agent{cfg: n.cfg}
	python := filepath.Join(t.TempDir(), "python")
	require.NoError(t, os.WriteFile(python, []byte("#!/bin/sh\nexec sleep 60\n"), 0o700))
	a.cfg.Python = python
	n.write("manage.py", "")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.NoError(t, a.preflight(ctx, zerolog.Nop()))
}
