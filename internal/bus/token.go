package bus

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
)

// Token makes s usable as one token of a subject or key, and keeps apart what is different: letters, digits, '-', '_', '='
// stay, and every other byte becomes '=' and two hexadecimal digits, as in quoted-printable mail: om1.example.com is
// om1=2Eexample=2Ecom. See FromToken for the way back. A name of more than 64 bytes is cut and ends in a digest: the server
// closes connections over long subjects.
func Token(s string) string {
	const hexDigits = "0123456789ABCDEF"
	s = cut(s)
	if s == "-" {
		return "=2D" // because of the empty name
	}
	if s == "" {
		return "-"
	}
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if !plain(rune(c)) || c == '=' && escaped(s[i:]) {
			b.Write([]byte{'=', hexDigits[c>>4], hexDigits[c&15]})
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

// FromToken is the name that Token was given, unless that was cut.
func FromToken(token string) string {
	if token == "-" {
		return ""
	}
	var b strings.Builder
	for i := 0; i < len(token); i++ {
		if escaped(token[i:]) {
			c, _ := strconv.ParseUint(token[i+1:i+3], 16, 8)
			b.WriteByte(byte(c))
			i += 2
			continue
		}
		b.WriteByte(token[i])
	}
	return b.String()
}

// FormerToken is what Token was at first: it made om1.example.com and om1_example_com the same. What older programs have stored
// under it is still read, because an order or a report must not be forgotten with an upgrade.
func FormerToken(s string) string { return label(s) }

// label makes s usable as one token that people recognise. Different ones may become the same.
func label(s string) string {
	if s = cut(s); s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if plain(r) {
			return r
		}
		return '_'
	}, s)
}

func plain(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '='
}

// escaped tells whether s begins with an escaped byte.
func escaped(s string) bool {
	digit := func(c byte) bool { return c >= '0' && c <= '9' || c >= 'A' && c <= 'F' }
	return len(s) >= 3 && s[0] == '=' && digit(s[1]) && digit(s[2])
}

func cut(s string) string {
	const limit, kept = 64, 48
	if len(s) <= limit {
		return s
	}
	digest := sha256.Sum256([]byte(s))
	return strings.ToValidUTF8(s[:kept], "") + "-" + hex.EncodeToString(digest[:6])
}

// HeaderText makes s fit for a header value: one line of printable text, 1,000 bytes at most.
func HeaderText(s string) string {
	const limit = 1000
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return strings.TrimSpace(s)
}
