package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

type shaped struct {
	IP      string `envconfig:"TEST_IP" default:"127.0.0.1"`
	Port    int    `envconfig:"TEST_SHAPED_PORT" default:"5169"`
	Command string `envconfig:"TEST_COMMAND" form:"command"`
}

func TestWhatNoValueHasOnPurposeIsNamed(t *testing.T) {
	for _, value := range []string{
		"127.0.0.1\r", "127.0.0.1\n", " 127.0.0.1", "127.0.0.1 ", "\u00a0127.0.0.1", `"127.0.0.1"`, `'127.0.0.1'`,
		`127.0.0.1"`, " ", "a\x00b"[:1] + "\x7f",
	} {
		t.Setenv("TEST_IP", value)
		var wrong *Error
		require.ErrorAs(t, Load(&shaped{}), &wrong, "%q", value)
		require.Equal(t, "TEST_IP", wrong.Var)
		require.NotContains(t, wrong.Error(), "127.0.0.1", "a value may be a password")
	}
	t.Setenv("TEST_IP", "127.0.0.1")
	t.Setenv("TEST_SHAPED_PORT", "5169\r")
	require.ErrorContains(t, Load(&shaped{}), "TEST_SHAPED_PORT: holds a carriage return")
}

func TestQuotesBelongToACommand(t *testing.T) {
	var s shaped
	t.Setenv("TEST_COMMAND", `"/opt/my python/bin/python" manage.py 'runserver' `)
	require.NoError(t, Load(&s))
	t.Setenv("TEST_COMMAND", "python3 manage.py\r")
	require.ErrorContains(t, Load(&s), "TEST_COMMAND: holds a carriage return")
}

// A line `BOOSTER_IP=` in a file of settings is a variable that nobody has set.
func TestEmptyIsNotSet(t *testing.T) {
	t.Setenv("TEST_IP", "")
	t.Setenv("TEST_SHAPED_PORT", "")
	var s shaped
	require.NoError(t, Load(&s))
	require.Equal(t, shaped{IP: "127.0.0.1", Port: 5169}, s)
}
