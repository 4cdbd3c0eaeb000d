package broker

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/preflight"
)

// Whatever is mistyped, it must never end in listening on all interfaces.
func TestListensWhereItWasToldAndNowhereElse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ host, listen, want, wrong string }{
		"nothing said":        {want: "127.0.0.1"},
		"loopback":            {host: "127.0.0.1", want: "127.0.0.1"},
		"localhost":           {host: "localhost", want: "127.0.0.1"},
		"another host's":      {host: "192.0.2.7", wrong: "BOOSTER_IP"},
		"not an address":      {host: "127.0.0.1\r", wrong: "BOOSTER_IP"},
		"a router's":          {host: "192.0.2.7", listen: "127.0.0.1", want: "127.0.0.1"},
		"all, and said so":    {host: "192.0.2.7", listen: "0.0.0.0", want: "0.0.0.0"},
		"listens elsewhere":   {host: "127.0.0.1", listen: "192.0.2.7", wrong: "BOOSTER_LISTEN"},
		"a name of all hosts": {host: "booster.invalid", wrong: "BOOSTER_IP"},
	} {
		got, err := place{"BOOSTER_IP", c.host, "BOOSTER_LISTEN", c.listen}.resolve(t.Context())
		if c.wrong == "" {
			require.NoError(t, err, name)
			require.Equal(t, c.want, got, name)
			continue
		}
		require.ErrorContains(t, err, c.wrong, name) // not *config.Error where no name server answers
	}
	var wrong *config.Error
	_, err := place{"BOOSTER_IP", "192.0.2.7", "BOOSTER_LISTEN", ""}.resolve(t.Context())
	require.True(t, errors.As(err, &wrong))
	require.Contains(t, wrong.Fix, "BOOSTER_LISTEN")
}

// An interface has no address for some seconds when its host boots.
func TestAddressOfABoosterThatRanBeforeIsWaitedFor(t *testing.T) {
	t.Parallel()
	asked := 0
	booting := func(context.Context) (string, error) {
		if asked++; asked < 3 {
			return "192.0.2.7", place{variable: "BOOSTER_IP"}.elsewhere("BOOSTER_IP", "192.0.2.7")
		}
		return "192.0.2.7", nil
	}
	dir := t.TempDir()
	l := &listener{resolve: booting, dataDir: dir, log: zerolog.New(zerolog.NewTestWriter(t))}
	var wrong *config.Error
	_, err := l.await(t.Context())
	require.ErrorAs(t, err, &wrong, "it never ran: the setting is wrong")

	asked = 0
	require.NoError(t, os.WriteFile(filepath.Join(dir, bootStateName), []byte("{}"), 0o600))
	host, err := l.await(t.Context())
	require.NoError(t, err)
	require.Equal(t, "192.0.2.7", host)
	require.Equal(t, 3, asked, "until the host has it")
}

// Debian's /etc/hosts gives the name of a host to 127.0.1.1. A Booster of that name would be ready, and alone.
func TestNameThatIsLoopbackHereIsRefused(t *testing.T) {
	t.Parallel()
	host, err := os.Hostname()
	require.NoError(t, err)
	found, err := net.DefaultResolver.LookupNetIP(t.Context(), "ip", host)
	if err != nil {
		t.Skipf("this host does not know its own name: %v", err)
	}
	got, err := place{"BOOSTER_IP", host, "BOOSTER_LISTEN", ""}.resolve(t.Context())
	for _, addr := range found {
		if !addr.IsLoopback() {
			require.NoError(t, err)
			require.True(t, preflight.Here(t.Context(), got), got)
			require.False(t, net.ParseIP(got).IsLoopback(), "others come in by %s", addr)
			return
		}
	}
	require.ErrorContains(t, err, "no other host comes in")
}

func TestTwoBoostersMeetOnIPv6(t *testing.T) {
	t.Parallel()
	if !preflight.Here(t.Context(), "::1") {
		t.Skip("this host has no IPv6")
	}
	cfgA, cfgB := pair(t)
	for _, cfg := range []*Config{&cfgA, &cfgB} {
		cfg.Level, cfg.Format = "info", "auto"
		cfg.Servers, cfg.Timeout = 1, time.Minute
	}
	cfgA.IP, cfgA.HAIP = "[::1]", "::1"
	cfgB.IP, cfgB.HAIP = "0:0:0:0:0:0:0:1", "[::1]"
	require.NoError(t, cfgA.Validate())
	require.NoError(t, cfgB.Validate())
	a, runA := startBooster(t, cfgA, "a")
	b, runB := startBooster(t, cfgB, "b")
	runA.wait(t)
	runB.wait(t)
	active := activeOf(t, "no automatic takeover: no witness", a, b)
	require.Equal(t, hostPort("::1", active.cfg.Port), active.now.Load().report.describe().Booster.Address)
	for _, ip := range []string{"::1", "[::1]"} {
		client := bus.ClientConfig{IP: ip, Port: cfgA.Port, SecondIP: ip, SecondPort: cfgB.Port}
		require.NoError(t, client.Validate())
		c, err := bus.Dial(client, t.Name())
		require.NoError(t, err)
		c.Close()
	}
	for _, port := range []int{cfgA.Port, cfgB.Port, cfgA.ClusterPort, cfgB.ClusterPort} {
		_, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", hostPort("127.0.0.1", port))
		require.Error(t, err, "it listens on more than it was told")
	}
}
