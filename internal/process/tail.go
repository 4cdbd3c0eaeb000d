package process

import (
	"strings"
	"sync"
)

// What a Tail keeps of an output.
const (
	TailLines = 5
	TailWidth = 300 // bytes of a line
)

// Tail is the last lines of an output, for the message about a failure. The zero value is empty. It may be used from anywhere:
// a process that cannot be ended still writes while its Tail is read.
type Tail struct {
	mu    sync.Mutex
	lines []string
}

// Add appends a line, cut to TailWidth.
func (t *Tail) Add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == TailLines {
		t.lines = append(t.lines[:0], t.lines[1:]...)
	}
	t.lines = append(t.lines, Cut(line, TailWidth))
}

// Reset forgets all lines.
func (t *Tail) Reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = nil
}

// Lines returns a copy of the lines, the oldest first; nil if there are none.
func (t *Tail) Lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.lines...)
}

// Cut shortens s to at most limit bytes of valid UTF-8; "…" marks the cut.
func Cut(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	return strings.ToValidUTF8(s, "")
}
