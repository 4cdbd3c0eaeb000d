// Package text writes numbers, sizes and durations for people, and makes text from elsewhere safe for a terminal.
package text

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// OneLine makes text from elsewhere safe to show: control characters, which could steer the terminal, become spaces.
func OneLine(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s))
}

// Shorten cuts a text for a narrow column; the JSON form has all of it.
func Shorten(s string, length int) string {
	runes := []rune(s)
	if len(runes) <= length {
		return s
	}
	return string(runes[:length-1]) + "…"
}

// Age writes a duration as people say it, in its two largest units: 800ms, 12s, 3m12s, 5h2m, 3d4h. Clocks of two
// machines differ, so what seems to lie in the future is 0s.
func Age(d time.Duration) string {
	const day = 24 * time.Hour
	two := func(big, small time.Duration, bigName, smallName string) string {
		text := strconv.Itoa(int(d/big)) + bigName
		if rest := d % big / small; rest > 0 {
			text += strconv.Itoa(int(rest)) + smallName
		}
		return text
	}
	switch {
	case d < time.Millisecond:
		return "0s"
	case d < time.Second:
		return strconv.Itoa(int(d/time.Millisecond)) + "ms"
	case d < time.Minute:
		return strconv.Itoa(int(d/time.Second)) + "s"
	case d < time.Hour:
		return two(time.Minute, time.Second, "m", "s")
	case d < day:
		return two(time.Hour, time.Minute, "h", "m")
	default:
		return two(day, time.Hour, "d", "h")
	}
}

// Count writes a number with thousands separators: 1,234,567.
func Count[N ~int | ~int64 | ~uint64](n N) string {
	digits := fmt.Sprint(n)
	sign := ""
	if digits[0] == '-' {
		sign, digits = "-", digits[1:]
	}
	var out strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			out.WriteByte(',')
		}
		out.WriteRune(d)
	}
	return sign + out.String()
}

// Counted writes a number with its noun: 1 step, 1,200 steps.
func Counted[N ~int | ~int64 | ~uint64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return Count(n) + " " + noun + "s"
}

// Size writes a number of bytes in binary units: 640 B, 1.5 KiB, 12 MiB.
func Size[N ~int | ~int64 | ~uint64](n N) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), -1
	for value >= 1023.5 && unit < len(sizeUnits)-1 {
		value, unit = value/1024, unit+1
	}
	if value < 10 {
		return strings.TrimSuffix(strconv.FormatFloat(value, 'f', 1, 64), ".0") + " " + sizeUnits[unit]
	}
	return strconv.FormatFloat(value, 'f', 0, 64) + " " + sizeUnits[unit]
}

var sizeUnits = []string{"KiB", "MiB", "GiB", "TiB", "PiB"}

// Printable is oneLine for a text of many lines.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// Percent writes a share from 0 to 1.
func Percent(share float64) string { return strconv.FormatFloat(share*100, 'f', 0, 64) + " %" }
