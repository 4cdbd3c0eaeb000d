// Package snapshot takes everything that a bus holds into files, and puts it back: every stream with the sequences, headers and
// times of its messages, the buckets and object stores that are made of streams, and the state of their consumers.
//
// A snapshot is a directory (Take, OpenDir) or one file that holds the same (Pack, OpenFile):
//
//	manifest.json           which streams, what is in each, and digests of everything
//	streams/03-WORK.s2      a stream as the server wrote it
//
// Each stream is consistent in itself; streams are taken one after the other while the bus is in use. Streams in memory are left out: after
// a restart of their server they are worth nothing.
//
// Restore reads all of a snapshot before it touches anything, replaces one stream after the other, and checks what the server then has. It
// may be called again after an interruption and goes on where it ended:
//
//	absent, empty ─────────────────▶ deleted if there ─▶ restored under a mark ─▶ checked ─▶ mark removed
//	partial (mark of a Restore) ───▶        "
//	occupied ──only with Force─────▶        "
//	same (equal state) ────────────▶ left alone
//
// Both work over any connection, one inside the process included. They speak STREAM.SNAPSHOT and STREAM.RESTORE of the JetStream API
// in the format of NATS 2.15; DESIGN.md says why without a library.
package snapshot

import (
	"errors"
	"fmt"
)

// ErrInvalid is matched by every error that says: this snapshot is damaged, cut off, or not one at all. The bus was not touched.
var ErrInvalid = errors.New("not a usable snapshot")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
}

// Progress is how far Take or Restore is.
type Progress struct {
	Stream  string
	Index   int   // of the stream, from 1
	Streams int   // how many there are
	Done    int64 // bytes of this stream that went over the connection
	Total   int64 // of those in the end; 0 while a server packs a stream, because it does not know
}
