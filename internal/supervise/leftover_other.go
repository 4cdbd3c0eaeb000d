//go:build !linux

package supervise

import (
	"context"
	"time"

	"github.com/rs/zerolog"
)

// EndLeftovers has nothing to do on Windows: the system ends the job of every child with this process, see internal/process.
func EndLeftovers(context.Context, string, time.Duration, zerolog.Logger) error { return nil }

// endStrays has nothing to do on Windows: a process cannot leave the job of its child.
func endStrays(string, string, zerolog.Logger) int { return 0 }
