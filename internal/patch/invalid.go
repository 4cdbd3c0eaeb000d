package patch

import (
	"errors"
	"fmt"
)

// ErrInvalid is returned for a patch that can never be applied, here or now: trying again does not help.
// Transient trouble (disk, bus) never matches it.
var ErrInvalid = errors.New("patch refused")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
}
