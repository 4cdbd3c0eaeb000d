package config

import (
	"errors"
	"testing"
)

func TestSize(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]int64{"10MB": 10_000_000, "1 MiB": 1 << 20, "64k": 64_000, "100": 100} {
		if got, err := Size("X", value, 100); err != nil || got != want {
			t.Errorf("%s: %d, %v", value, got, err)
		}
	}
	for _, value := range []string{"", "ten", "-1MB", "99", "9000000PB", "8EB"} {
		var wrong *Error
		if got, err := Size("X", value, 100); !errors.As(err, &wrong) || wrong.Var != "X" {
			t.Errorf("%s: %d, %v", value, got, err)
		}
	}
}
