// Package config reads the environment into typed structs and says, in one line, what is wrong with it.
//
// Every service declares a struct whose fields carry the tags `envconfig` (variable), `default` and `desc`.
// Load fills it, Table prints it; there are no flags and no configuration files.
package config

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/kelseyhightower/envconfig"
)

// Error is a wrong setting. It names the variable, says what is wrong with it and what to do.
// Commands that end with it exit with code 2.
type Error struct {
	Var     string // environment variable, for example BOOSTER_PORT
	Problem string // what is wrong, never with a secret in it
	Fix     string // what to do
}

func (e *Error) Error() string {
	msg := e.Var + ": " + e.Problem
	if e.Fix != "" {
		msg += "; " + e.Fix
	}
	return msg
}

// Validator is a configuration struct that checks itself after it was filled.
type Validator interface{ Validate() error }

// Load fills the struct that spec points to from the environment and validates it.
// It returns an *Error for a value of the wrong form.
func Load(spec any) error {
	if err := CheckShape(spec); err != nil {
		return err
	}
	if err := unsetEmpty(spec); err != nil {
		return err
	}
	if err := envconfig.Process("", spec); err != nil {
		var parse *envconfig.ParseError
		var own *Error // from a type that decodes itself
		if errors.As(err, &parse) && errors.As(parse.Err, &own) {
			return own
		}
		if parse != nil {
			return &Error{
				Var:     parse.KeyName,
				Problem: fmt.Sprintf("%q is not a valid %s", parse.Value, plainType(parse.TypeName)),
				Fix:     "correct it or unset it for the default",
			}
		}
		return fmt.Errorf("read environment: %w", err)
	}
	if v, ok := spec.(Validator); ok {
		return v.Validate()
	}
	return nil
}

// plainType names a Go type in words that an operator understands.
func plainType(name string) string {
	switch {
	case strings.HasPrefix(name, "int"), strings.HasPrefix(name, "uint"):
		return "number (digits only)"
	case name == "bool":
		return "switch (true or false)"
	case name == "time.Duration":
		return "duration (for example 500ms, 30s or 5m)"
	default:
		return name
	}
}

const tableFormat = "VARIABLE\tDEFAULT\tMEANING\n" +
	"{{range .}}{{usage_key .}}\t{{with usage_default .}}{{.}}{{else}}-{{end}}\t{{usage_description .}}\n{{end}}"

// Table writes every variable of spec with its default and meaning, one a line.
func Table(w io.Writer, spec any) error {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	if err := envconfig.Usagef("", spec, tw, tableFormat); err != nil {
		return fmt.Errorf("print configuration: %w", err)
	}
	return tw.Flush()
}

// Port checks a TCP port number.
func Port(name string, port int) error {
	if port < 1 || port > 65535 {
		return &Error{Var: name, Problem: fmt.Sprintf("%d is not a TCP port", port), Fix: "use 1 to 65535"}
	}
	return nil
}

// Between checks the bounds of a number.
func Between(name string, value, low, high int) error {
	if value < low || value > high {
		return &Error{Var: name, Problem: fmt.Sprintf("%d is out of range", value), Fix: fmt.Sprintf("use %d to %d", low, high)}
	}
	return nil
}

// OneOf checks a value against the words that are allowed for it.
func OneOf(name, value string, allowed ...string) error {
	for _, a := range allowed {
		if value == a {
			return nil
		}
	}
	return &Error{Var: name, Problem: fmt.Sprintf("%q is not known", value), Fix: "use " + strings.Join(allowed, " or ")}
}

// Positive checks a duration.
func Positive(name string, d time.Duration) error {
	if d <= 0 {
		return &Error{Var: name, Problem: d.String() + " is not a positive duration", Fix: "use for example 30s"}
	}
	return nil
}
