package supervise

import (
	"errors"
	"strings"
)

// Split cuts a command line into program and arguments the way a shell does, without a shell: words are separated by blanks;
// '…' keeps everything, "…" keeps blanks; a backslash keeps the next character, in "…" only before " and \. Nothing is
// expanded. If literalBackslash is true, as it must be for Windows paths, a backslash is an ordinary character.
func Split(line string, literalBackslash bool) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord := false
	quote := rune(0)
	runes := []rune(line)
	for i := 0; i < len(runes); i++ {
		r := runes[i]
		switch {
		case r == '\\' && !literalBackslash && quote != '\'':
			if i+1 == len(runes) {
				return nil, errors.New("it ends in a backslash")
			}
			if next := runes[i+1]; quote == 0 || next == '"' || next == '\\' {
				r = next
				i++
			}
			word.WriteRune(r)
			inWord = true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case r == ' ' || r == '\t' || r == '\n' || r == '\r':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, errors.New("a quote is not closed")
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}
