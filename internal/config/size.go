package config

import (
	"fmt"

	"github.com/dustin/go-humanize"
)

// Size reads a number of bytes as people write it, for example 10MB (decimal) or 10MiB (binary), and checks that it is not below least.
func Size(name, value string, least int64) (int64, error) {
	n, err := humanize.ParseBytes(value)
	if err != nil {
		return 0, &Error{Var: name, Problem: fmt.Sprintf("%q is not a size", value), Fix: "use for example 10MB"}
	}
	if n < uint64(least) || n > 1<<62 {
		return 0, &Error{Var: name, Problem: value + " is out of range", Fix: fmt.Sprintf("use %s or more", humanize.IBytes(uint64(least)))}
	}
	return int64(n), nil
}
