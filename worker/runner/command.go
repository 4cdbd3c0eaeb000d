package runner

import (
	"errors"
	"fmt"
	"strings"
)

// ParseCommand splits a command line at white space. Single or double quotes keep white space, and each other, in one
// argument. There are no escapes and no variables: a backslash is a backslash, so that Windows paths need no care.
// It fails for an empty command and for a quote that is never closed.
func ParseCommand(s string) ([]string, error) {
	var (
		args   []string
		arg    strings.Builder
		inArg  bool // also for "", which is an argument
		quote  rune // the quote we are in, or 0
		opened int  // where it was opened
	)
	for i, c := range s {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote, opened, inArg = c, i, true
		case quote == 0 && strings.ContainsRune(" \t\r\n", c):
			if inArg {
				args = append(args, arg.String())
			}
			arg.Reset()
			inArg = false
		default:
			arg.WriteRune(c)
			inArg = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("the %c at character %d is never closed", quote, len([]rune(s[:opened]))+1)
	}
	if inArg {
		args = append(args, arg.String())
	}
	if len(args) == 0 || args[0] == "" {
		return nil, errors.New("the command is empty")
	}
	return args, nil
}
