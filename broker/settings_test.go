package broker

import (
	"context"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/logging"
)

// A wrong setting is refused before anything is touched.
func TestWrongSettingsAreRefusedAtConstruction(t *testing.T) {
	t.Parallel()
	for variable, spoil := range map[string]func(c *Config){
		"BOOSTER_PORT":            func(c *Config) { c.Port = 0 },
		"BOOSTER_DATA_DIR":        func(c *Config) { c.DataDir = "" },
		"BOOSTER_LEASE":           func(c *Config) { c.Lease = time.Millisecond },
		"BOOSTER_ROLLOUT_SERVERS": func(c *Config) { c.Servers = 0 },
		"BOOSTER_IP":              func(c *Config) { c.HAIP = "192.0.2.2" },
		"LOG_LEVEL":               func(c *Config) { c.Level = "loud" },
	} {
		cfg := testConfig(t)
		spoil(&cfg)
		b, err := New(cfg, zerolog.Nop())
		require.Nil(t, b, variable)
		var wrong *config.Error
		require.ErrorAs(t, err, &wrong, variable)
		require.Equal(t, variable, wrong.Var)
		_, err = Shrink(t.Context(), cfg, zerolog.Nop(), ShrinkOptions{})
		require.ErrorAs(t, err, &wrong, variable)
		require.Equal(t, variable, wrong.Var)
	}
	good := WitnessConfig{
		Config: logging.Config{Level: "info", Format: "auto"},
		Name:   "witness-a", Address: "127.0.0.1:5169", Boosters: []string{"127.0.0.1:5170"}, DataDir: t.TempDir(),
	}
	_, err := NewWitness(good, zerolog.Nop())
	require.NoError(t, err)
	for variable, spoil := range map[string]func(c *WitnessConfig){
		"WITNESS_NAME":     func(c *WitnessConfig) { c.Name = "a" },
		"WITNESS_ADDRESS":  func(c *WitnessConfig) { c.Address = "127.0.0.1" },
		"WITNESS_LISTEN":   func(c *WitnessConfig) { c.Listen = "here" },
		"WITNESS_BOOSTERS": func(c *WitnessConfig) { c.Boosters = nil },
		"WITNESS_DATA_DIR": func(c *WitnessConfig) { c.DataDir = "" },
	} {
		cfg := good
		spoil(&cfg)
		w, err := NewWitness(cfg, zerolog.Nop())
		require.Nil(t, w, variable)
		var wrong *config.Error
		require.ErrorAs(t, err, &wrong, variable)
		require.Equal(t, variable, wrong.Var)
	}
}

// A host that boots has no address for some seconds, and a witness must vote again after a full stop.
func TestWitnessWaitsForItsAddressAsABoosterDoes(t *testing.T) {
	t.Parallel()
	cfg := WitnessConfig{
		Config: logging.Config{Level: "info", Format: "auto"},
		Name:   "witness-a", Address: "192.0.2.7:5169", Boosters: []string{"127.0.0.1:5170"}, DataDir: t.TempDir(),
	}
	w, err := NewWitness(cfg, zerolog.Nop())
	require.NoError(t, err)
	var wrong *config.Error
	require.ErrorAs(t, w.Run(t.Context()), &wrong, "it never ran: the setting is wrong")
	require.Equal(t, "AGENT_IP", wrong.Var)

	s, err := openStore(t.Context(), cfg.DataDir, cfg.Name, modeWitness)
	require.NoError(t, err)
	s.close()
	asked := make(chan struct{}, 1)
	resolve := w.listener.resolve
	w.listener.resolve = func(ctx context.Context) (string, error) {
		select {
		case asked <- struct{}{}:
		default:
		}
		return resolve(ctx)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	for range 3 { // it asks again
		select {
		case <-asked:
		case err := <-ended:
			t.Fatalf("does not wait: %v", err)
		}
	}
	cancel()
	require.NoError(t, <-ended, "a requested stop")
}
