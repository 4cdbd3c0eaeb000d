package patch

import (
	"io"
	"io/fs"
	"slices"
)

// Revert writes a signed artifact that takes back the patch that is staged, on this home and on those that are like it: files
// that it replaces or deletes as they are now, and deletions of those that are new. It fails with ErrInvalid if the patch
// changes nothing here, and belongs between Stage and Switch.
func (j *Journal) Revert(w io.Writer, signer Signer, author string) (Manifest, error) {
	o := Options{
		Author: author, Note: "takes back " + j.record.Report.Patch, Reverts: j.record.Report.Patch, Signer: signer,
		Selection: Selection{Secrets: true, Files: []string{}, Bases: map[string]string{}}, // secrets: what was there before
	}
	brought := map[string]string{}
	for _, f := range j.record.Content.Files {
		brought[f.Path] = f.SHA256
	}
	for i, c := range j.record.Changes {
		there, err := j.home.exists(c.Path)
		switch {
		case err != nil:
			return Manifest{}, err
		case c.OldDir:
			o.Deletions = append(o.Deletions, c.Path)
			if err := j.revertDir(i, &o); err != nil {
				return Manifest{}, err
			}
			continue
		case len(c.NewDirs) > 0:
			for name := range brought {
				if below(c.Path, name) {
					o.Deletions = append(o.Deletions, name)
				}
			}
		}
		switch {
		case !there:
			o.Deletions = append(o.Deletions, c.Path)
			continue
		case c.Delete || len(c.NewDirs) > 0:
			o.Bases[c.Path] = BaseNone
		default:
			o.Bases[c.Path] = brought[c.Path]
		}
		o.Files = append(o.Files, c.Path)
	}
	slices.Sort(o.Deletions)
	return Build(w, j.home.root.FS(), o)
}

// revertDir brings back what is in a directory of which the patch makes a file.
func (j *Journal) revertDir(i int, o *Options) error {
	return fs.WalkDir(j.home.root.FS(), j.record.Changes[i].Path, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && slices.Contains(j.record.Content.Deletions, name) {
			o.Files, o.Bases[name] = append(o.Files, name), BaseNone
		}
		return err
	})
}
