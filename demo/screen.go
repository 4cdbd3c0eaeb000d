package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
)

// screen is what the person sees: lines that stay, and on a terminal one line below them that moves.
type screen struct {
	out      *os.File
	terminal bool
	began    time.Time
	live     string    // what the moving line shows now
	printed  time.Time // when progress was last printed as a line of its own
}

func newScreen(out *os.File) *screen {
	return &screen{out: out, terminal: isatty.IsTerminal(out.Fd()) || isatty.IsCygwinTerminal(out.Fd()), began: time.Now()}
}

// text prints lines as they are.
func (s *screen) text(lines string) {
	s.clear()
	fmt.Fprint(s.out, lines)
	s.show(s.live)
}

// event prints one line with the time since the start.
func (s *screen) event(format string, args ...any) {
	s.text(s.stamped(fmt.Sprintf(format, args...)))
}

func (s *screen) stamped(line string) string {
	return fmt.Sprintf("%6.1fs  %s\n", time.Since(s.began).Seconds(), line)
}

// progress shows how far the work is: in place on a terminal, else as a line every few seconds.
func (s *screen) progress(done, total int, perSecond float64) {
	const every = 3 * time.Second
	counted := fmt.Sprintf("%s of %s steps", thousands(done), thousands(total))
	if perSecond > 0 {
		counted += fmt.Sprintf("   %.0f/s", perSecond)
	}
	if s.terminal {
		const width = 30
		filled := min(width, width*done/max(total, 1))
		s.show("         " + strings.Repeat("█", filled) + strings.Repeat("░", width-filled) + "  " + counted)
		return
	}
	if done > 0 && time.Since(s.printed) >= every {
		s.printed = time.Now()
		fmt.Fprint(s.out, s.stamped(counted))
	}
}

// quiet ends the moving line.
func (s *screen) quiet() {
	s.clear()
	s.live = ""
}

func (s *screen) show(line string) {
	s.live = line
	if s.terminal && line != "" {
		fmt.Fprint(s.out, "\r\x1b[K"+line)
	}
}

func (s *screen) clear() {
	if s.terminal && s.live != "" {
		fmt.Fprint(s.out, "\r\x1b[K")
	}
}

// thousands writes a number with separators: 1,234,567.
func thousands(n int) string {
	digits := fmt.Sprint(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
