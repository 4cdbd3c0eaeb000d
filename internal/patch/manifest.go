// Package patch is the artifact that brings a changed OMFLOW Server to all the others: building it, publishing it on the bus,
// checking it, and applying it to the home of a server.
//
// An artifact is a tar archive compressed with zstd. Its first entry, manifest.json, says everything that follows: the files
// under files/, in the manifest's order, and nothing else. Between them manifest.sig says who answers for it. An artifact is checked
// to its last byte before a home is touched, and no path, link or archive entry can lead outside the home. See DESIGN.md for the reasons.
package patch

import (
	"crypto/rand"
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// Format is the version of the artifact's layout: a field that must be understood makes another one. An agent that does not
// know it waits for its update (bus.ErrNewer). Format 1 was not signed.
const Format = 2

// DefaultLimit is how many bytes the files of one patch may have together.
const DefaultLimit = 1 << 30

// What a manifest may hold, so that it can be read into memory and announced in one message.
const (
	maxManifestBytes = 32 << 20
	maxFiles         = 100_000
	maxPathBytes     = 1024
	maxNameBytes     = 256 // author, versions
)

// MaxNoteBytes is how long a note may be.
const MaxNoteBytes = 4096

// Manifest is the first entry of an artifact.
type Manifest struct {
	Format    int       `json:"format"`
	ID        string    `json:"id"`   // sorts by time of building: 20260131-094500123-k3v7q2mx
	From      string    `json:"from"` // version of the OMFLOW Server that it is for; empty: any
	To        string    `json:"to"`   // version that it leads to; empty: none of its own
	Author    string    `json:"author"`
	Note      string    `json:"note"`
	Created   time.Time `json:"created"`
	Files     []File    `json:"files"`
	Deletions []string  `json:"deletions"` // files that go away; one that is not there is no error, nor is a directory in its place
	Hooks     Hooks     `json:"hooks"`
	Whole     bool      `json:"whole"`  // it holds all files of a home: for a server that has none yet
	Reverts   string    `json:"undoes"` // id of the patch that it reverts
}

// File is one file of a patch. Paths are relative to the server's home, with forward slashes.
type File struct {
	Path   string `json:"path"`
	Mode   Mode   `json:"mode"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // lower-case hexadecimal
	// sha256 of the file that it replaces where the patch comes from, BaseNone if there was none; empty: not known
	Base string `json:"base"`
}

// BaseNone is the Base of a file that was new.
const BaseNone = "none"

// Mode is the permission bits of a file, in JSON an octal string such as "0644".
type Mode uint32

// MarshalText writes four octal digits.
func (m Mode) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%04o", uint32(m)), nil }

// UnmarshalText reads octal digits.
func (m *Mode) UnmarshalText(text []byte) error {
	bits, err := strconv.ParseUint(string(text), 8, 32)
	if err != nil {
		return fmt.Errorf("mode %q is not octal", text)
	}
	*m = Mode(bits)
	return nil
}

func (m Mode) perm() fs.FileMode { return fs.FileMode(m) & fs.ModePerm }

// Bytes is the size of all files together.
func (m Manifest) Bytes() int64 {
	var sum int64
	for _, f := range m.Files {
		sum += f.Size
	}
	return sum
}

// NewID returns an identity that two hosts never both choose. It sorts by time, to the millisecond, for people who read lists;
// programs compare Created, because ids of the same millisecond sort by chance.
func NewID(now time.Time) string {
	stamp := strings.Replace(now.UTC().Format("20060102-150405.000"), ".", "", 1)
	return stamp + "-" + strings.ToLower(rand.Text()[:8])
}

// Validate refuses a manifest that could do harm, or that this version does not understand. limit bounds the bytes of all
// files together. Every error matches ErrInvalid, or bus.ErrNewer.
func (m Manifest) Validate(limit int64) error {
	if err := checkFormat(m.Format); err != nil {
		return err
	}
	if !ValidID(m.ID) {
		return invalid("%q is not the id of a patch", m.ID)
	}
	if len(m.Note) > MaxNoteBytes || max(len(m.Author), len(m.From), len(m.To)) > maxNameBytes {
		return invalid("note, author or version is too long (at most %d, %d and %d bytes)", MaxNoteBytes, maxNameBytes, maxNameBytes)
	}
	if m.Reverts != "" && !ValidID(m.Reverts) {
		return invalid("%q, which it takes back, is not the id of a patch", m.Reverts)
	}
	if len(m.Files)+len(m.Deletions) == 0 {
		return invalid("it has no files and deletes none")
	}
	if len(m.Files)+len(m.Deletions) > maxFiles {
		return invalid("it names more than %d files", maxFiles)
	}
	paths := newPathSet()
	left := limit
	for _, f := range m.Files {
		if err := paths.add(f.Path, m.Whole); err != nil {
			return err
		}
		if f.Mode&^Mode(fs.ModePerm) != 0 {
			return invalid("%s has mode %04o; only permission bits are possible", f.Path, uint32(f.Mode))
		}
		if f.Size < 0 || f.Size > left || f.Size == math.MaxInt64 {
			return invalid("its files are larger than %d bytes together", limit)
		}
		left -= f.Size
		if !isSHA256(f.SHA256) {
			return invalid("%s has no valid sha256", f.Path)
		}
		if f.Base != "" && f.Base != BaseNone && !isSHA256(f.Base) {
			return invalid("%s has no valid base", f.Path)
		}
	}
	for _, path := range m.Deletions {
		if err := paths.add(path, false); err != nil {
			return err
		}
	}
	if err := paths.checkNesting(m.Files); err != nil {
		return err
	}
	return m.checkHooks()
}

func checkFormat(format int) error {
	switch {
	case format > Format:
		return fmt.Errorf("its format is %d and this omflow-booster knows %d; %w", format, Format, bus.ErrNewer)
	case format < Format:
		return invalid("its format is %d, of an older omflow-booster that did not sign; build it again with this one", format)
	}
	return nil
}

// ValidID tells whether s can be the id of a patch: a token of a subject and the name of a file.
func ValidID(s string) bool { return s != "-" && s == bus.Token(s) && len(s) <= 64 }

func isSHA256(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}
