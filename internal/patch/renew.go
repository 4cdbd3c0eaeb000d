package patch

import (
	"fmt"
	"io"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/bundle"
)

// Renew writes an artifact that trust takes once more, under an id of now: what it does to a home stays, and o says who signs
// it, who wants it, and why. Only when it returns nil is what was written of use.
func Renew(w io.Writer, r io.Reader, trust Trust, o Options) (m Manifest, err error) {
	archive, err := bundle.NewWriter(w)
	if err != nil {
		return m, err
	}
	now := time.Now()
	_, err = walk(r, DefaultLimit, visitor{
		trust: trust,
		begin: func(old Manifest) error {
			m = old
			m.ID, m.Created, m.Author, m.Note = NewID(now), now.UTC().Truncate(time.Millisecond), o.Author, o.Note
			if err := m.Validate(DefaultLimit); err != nil {
				return err
			}
			return writeHead(archive, m, o.Signer)
		},
		file: func(_ int, f File, in io.Reader) error {
			if err := archive.Begin(filesPrefix+f.Path, f.Mode.perm(), f.Size, m.Created); err != nil {
				return fmt.Errorf("write %s: %w", f.Path, err)
			}
			_, err := io.Copy(archive, in)
			return err
		},
	})
	if closed := archive.Close(); err == nil {
		err = closed
	}
	return m, err
}
