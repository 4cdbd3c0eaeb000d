package config

import (
	"os"
	"strings"
	"unicode"
)

// formCommand is the value of the tag `form` for a command line: it is taken apart as a shell does, so quotes and blanks belong to it.
const formCommand = "command"

// CheckShape finds what no value has on purpose: a carriage return of a file from Windows, a blank at an end, quotes that a
// shell would have removed and a service manager does not. It looks at every variable of the structs and returns an *Error. No
// value is shown: it may hold a password.
func CheckShape(specs ...any) error {
	for _, spec := range specs {
		for _, v := range Variables(spec) {
			if problem, fix := misshapen(os.Getenv(v.Name), v.Form == formCommand); problem != "" {
				return &Error{Var: v.Name, Problem: problem, Fix: fix}
			}
		}
	}
	return nil
}

func misshapen(value string, command bool) (problem, fix string) {
	if value == "" {
		return "", ""
	}
	if strings.Contains(value, "\r") {
		return "holds a carriage return", "the file it comes from has the line ends of Windows: save it with those of Unix"
	}
	if strings.ContainsFunc(value, unicode.IsControl) {
		return "holds a line end, a tab or another control character", "write it on one line"
	}
	if command {
		return "", ""
	}
	first, last := value[0], value[len(value)-1]
	switch quotes := `"'`; {
	case strings.TrimSpace(value) == "":
		return "holds nothing but blanks", "give it a value or unset it"
	case strings.TrimSpace(value) != value:
		return "begins or ends with a blank", "remove the blank"
	case strings.IndexByte(quotes, first) >= 0, strings.IndexByte(quotes, last) >= 0:
		return "begins or ends with a quote", "write it without quotes: outside of a shell they belong to the value"
	}
	return "", ""
}

// unsetEmpty makes "set to nothing" what it means to people: not set. Otherwise a line `BOOSTER_IP=` would not give the
// default, but no address.
func unsetEmpty(spec any) error {
	for _, v := range Variables(spec) {
		if value, set := os.LookupEnv(v.Name); set && value == "" {
			if err := os.Unsetenv(v.Name); err != nil {
				return &Error{Var: v.Name, Problem: err.Error()}
			}
		}
	}
	return nil
}
