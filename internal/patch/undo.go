package patch

import (
	"io"
)

// Undo writes a signed artifact that takes back the patch that is staged, on this home and on those that are like it: files that it replaces or deletes
// as they are now, and deletions of those that are new. It fails with ErrInvalid if the patch changes nothing here, and belongs between Stage and Switch.
func (j *Journal) Undo(w io.Writer, signer Signer, author string) (Manifest, error) {
	o := Options{
		Author: author, Note: "takes back " + j.record.Report.Patch, Undoes: j.record.Report.Patch, Signer: signer,
		Files: []string{}, Bases: map[string]string{},
	}
	brought := map[string]string{}
	for _, f := range j.record.Content.Files {
		brought[f.Path] = f.SHA256
	}
	for _, c := range j.record.Changes {
		there, err := j.home.exists(c.Path)
		switch {
		case err != nil:
			return Manifest{}, err
		case !there:
			o.Deletions = append(o.Deletions, c.Path)
			continue
		case c.Delete:
			o.Bases[c.Path] = BaseNone
		default:
			o.Bases[c.Path] = brought[c.Path]
		}
		o.Files = append(o.Files, c.Path)
	}
	return Build(w, j.home.root.FS(), o)
}
