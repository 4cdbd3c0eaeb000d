package config

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHost(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"": "", "10.0.0.5": "10.0.0.5", "127.0.0.1": "127.0.0.1", "localhost": "localhost", "booster1.example.com": "booster1.example.com",
		"booster_1": "booster_1", "om1.": "om1.", "::1": "::1", "[::1]": "::1", "0:0:0:0:0:0:0:1": "::1", "[FD00::5]": "fd00::5",
		"::ffff:10.0.0.5": "10.0.0.5", "fe80::1%eth0": "fe80::1%eth0",
	} {
		got, err := Host("X", value)
		require.NoError(t, err, value)
		require.Equal(t, want, got, value)
	}
	for _, value := range []string{
		"127.0.0.1\r", " 10.0.0.5", `"10.0.0.5"`, "10.0.0.5:5169", "[::1]:5169", "nats://10.0.0.5", "http://10.0.0.5:8000/",
		"10.0.0.5,10.0.0.6", "a b",
		"10.0.0.5;10.0.0.6", "10.0.0.256", "127.1", "7", "010.0.0.1", "10.0.0.0/8", "[10.0.0.5]", "[::1", "::1]", "0.0.0.0", "::", "[::]",
		"224.0.0.1", "255.255.255.255",
		"-a", "a..b", "-", ".", "büro", "user:secret@10.0.0.5", "nats://user:secret@host:1", strings.Repeat("a", 64), "1:2:3",
	} {
		_, err := Host("BOOSTER_IP", value)
		var wrong *Error
		require.ErrorAs(t, err, &wrong, value)
		require.Equal(t, "BOOSTER_IP", wrong.Var)
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestAddress(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{"": "", "0.0.0.0": "0.0.0.0", "::": "::", "[::]": "::", "10.0.0.5": "10.0.0.5"} {
		got, err := Address("X", value)
		require.NoError(t, err, value)
		require.Equal(t, want, got)
	}
	for _, value := range []string{"*", "all", "localhost", "10.0.0.5:5169", "0.0.0.0/0", "0.0.0.0\r"} {
		_, err := Address("X", value)
		require.Error(t, err, value)
	}
}

func TestPath(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"", "/var/lib/omflow-booster", "data", `C:\data`, "/srv/a b"} {
		require.NoError(t, Path("X", value), value)
	}
	for _, value := range []string{"~/booster", "$HOME/booster", "file:///var/lib", "https://host/x"} {
		var wrong *Error
		require.True(t, errors.As(Path("X", value), &wrong), value)
	}
}
