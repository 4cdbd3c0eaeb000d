package adopt

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/omflow-booster/omflow-booster/internal/atomicfile"
)

// The block that adopt adds at the end of the settings. Undoing removes it, wherever the rest of the file was edited meanwhile.
const (
	BlockBegin  = "# >>> omflow-booster adopt (--undo removes this block)"
	blockEnd    = "# <<< omflow-booster adopt"
	blockJoined = " [the line above had no end]" // after blockBegin: the newline before it is ours too
)

var errBlockBroken = errors.New("the block of omflow-booster adopt has lost its beginning or its end; remove what is left of it by hand")

// addBlock returns the settings with our lines at their end, in place of an earlier block; nil if that changes nothing. Line
// ends are those of the file.
func addBlock(text []byte, lines []string) []byte {
	if len(lines) == 0 {
		return nil
	}
	if without, err := removeBlock(text); err == nil && without != nil {
		// What an earlier adopt has set stays, unless it is set anew: Python takes the last.
		old := text[bytes.Index(text, []byte(BlockBegin)):]
		for line := range strings.Lines(string(old)) {
			if line = strings.TrimRight(line, "\r\n"); line == blockEnd {
				break
			} else if !strings.HasPrefix(line, BlockBegin) {
				lines = append([]string{line}, lines...)
			}
		}
		text = without
	}
	end := "\n"
	if bytes.Contains(text, []byte("\r\n")) {
		end = "\r\n"
	}
	begin := BlockBegin
	var out bytes.Buffer
	out.Write(text)
	if len(text) > 0 && text[len(text)-1] != '\n' {
		begin += blockJoined
		out.WriteString(end)
	}
	for _, line := range append(append([]string{begin}, lines...), blockEnd) {
		out.WriteString(line + end)
	}
	return out.Bytes()
}

// removeBlock returns the settings without our block, byte for byte as they were; nil if there is none.
func removeBlock(text []byte) ([]byte, error) {
	begin := bytes.Index(text, []byte(BlockBegin))
	end := bytes.Index(text, []byte(blockEnd))
	switch {
	case begin < 0 && end < 0:
		return nil, nil
	case begin < 0 || end < begin:
		return nil, errBlockBroken
	}
	after := text[end+len(blockEnd):]
	after = bytes.TrimPrefix(bytes.TrimPrefix(after, []byte("\r")), []byte("\n"))
	before := text[:begin]
	if bytes.HasPrefix(text[begin+len(BlockBegin):], []byte(blockJoined)) {
		before = bytes.TrimSuffix(bytes.TrimSuffix(before, []byte("\n")), []byte("\r"))
	}
	return append(bytes.Clone(before), after...), nil
}

// difference shows how after differs from before, as diff does: they differ in one place.
func difference(path string, before, after []byte) string {
	old, fresh := splitLines(before), splitLines(after)
	head := 0
	for head < min(len(old), len(fresh)) && old[head] == fresh[head] {
		head++
	}
	tail := 0
	for tail < min(len(old), len(fresh))-head && old[len(old)-1-tail] == fresh[len(fresh)-1-tail] {
		tail++
	}
	context := max(0, head-3)
	var out strings.Builder
	fmt.Fprintf(&out, "--- %s\n+++ %s\n@@ -%d,%d +%d,%d @@\n", path, path, context+1, len(old)-tail-context, context+1,
		len(fresh)-tail-context)
	for _, part := range []struct {
		sign  string
		lines []string
	}{{" ", old[context:head]}, {"-", old[head : len(old)-tail]}, {"+", fresh[head : len(fresh)-tail]}} {
		for _, line := range part.lines {
			out.WriteString(part.sign + strings.TrimRight(line, "\r\n") + "\n")
		}
	}
	return out.String()
}

func splitLines(text []byte) (lines []string) {
	for line := range strings.Lines(string(text)) {
		lines = append(lines, line)
	}
	return lines
}

// copyBeside writes what path has to a new file with the same permissions.
func copyBeside(path, copied string, content []byte) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(copied, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), atomicfile.KeepOwner(copied, info), f.Close())
}

// replaceFile gives a file new content, so that it has the old or the new one whatever happens. Mode and owner stay; a link stays a link.
func replaceFile(path string, content []byte) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := copyBeside(path, fresh, content); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}
