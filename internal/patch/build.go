package patch

import (
	"archive/tar"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sort"
	"strings"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/atomicfile"
	"github.com/omflow-booster/omflow-booster/internal/bundle"
	"github.com/omflow-booster/omflow-booster/internal/secret"
)

// Names inside the archive.
const (
	manifestEntry = "manifest.json"
	filesPrefix   = "files/"
)

// Options is what people say about a patch.
type Options struct {
	From, To  string // versions; To defaults to the one in the patch's own version file
	Author    string
	Note      string
	Deletions []string  // paths relative to the home
	Hooks     Hooks     // what there is to do besides
	Now       time.Time // default: now
	Limit     int64     // default: DefaultLimit
	Signer    Signer    // required
	Whole     bool
	Reverts   string

	Selection
}

// Selection is which files below the directory a patch takes. The zero value takes everything that does not look like a secret.
type Selection struct {
	Secrets bool              // files that look like secrets are meant to be carried
	Files   []string          // paths to take instead of everything below the directory
	Bases   map[string]string // File.Base of those that have one
}

// Create is Build into the file at path, which is replaced as a whole.
func Create(path string, dir fs.FS, o Options) (m Manifest, err error) {
	err = atomicfile.Create(path, 0o600, func(w io.Writer) error {
		m, err = Build(w, dir, o)
		return err
	})
	return m, err
}

// Build writes a signed artifact with every file below dir to w. What Python generates (__pycache__, *.pyc) is left out; anything
// else that agents would refuse is refused here, with an error that matches ErrInvalid. Files are read twice, for their
// digests and for the archive; one that changes in between is an error.
func Build(w io.Writer, dir fs.FS, o Options) (Manifest, error) {
	if o.Signer == nil {
		return Manifest{}, errors.New("build patch: nobody signs it")
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if o.Limit == 0 {
		o.Limit = DefaultLimit
	}
	m := Manifest{
		Format: Format, ID: NewID(o.Now), From: o.From, To: o.To, Author: o.Author, Note: o.Note,
		Created: o.Now.UTC().Truncate(time.Millisecond), Deletions: o.Deletions,
		Hooks: o.Hooks, Whole: o.Whole, Reverts: o.Reverts,
	}
	var err error
	if m.Files, err = files(dir, o); err != nil {
		return m, fmt.Errorf("read files of the patch: %w", err)
	}
	if m.To == "" && hasFile(m.Files, VersionFile) {
		m.To = HomeVersion(dir)
	}
	if err := m.Validate(o.Limit); err != nil {
		return m, err
	}
	return m, writeArchive(w, dir, m, o.Signer)
}

// files describes what the patch brings.
func files(dir fs.FS, o Options) (files []File, err error) {
	names := o.Files
	if names == nil {
		names, err = collect(dir)
	}
	var secrets []string
	for _, name := range names {
		f, what, err := describe(dir, name)
		if err != nil {
			return nil, err
		}
		if what != "" {
			secrets = append(secrets, name+" ("+what+")")
		}
		files = append(files, f)
	}
	if len(secrets) > 0 && !o.Secrets && !o.Whole {
		return nil, invalid("it would carry what looks like secrets to all servers: %s; take them away, or say --with-secrets",
			strings.Join(secrets, ", "))
	}
	for i := range files {
		files[i].Base = o.Bases[files[i].Path]
	}
	// The version file comes last, so a home says that it is new only when everything else is in place.
	sort.SliceStable(files, func(i, j int) bool {
		if last := files[j].Path == VersionFile; last || files[i].Path == VersionFile {
			return last && files[i].Path != VersionFile
		}
		return files[i].Path < files[j].Path
	})
	return files, err
}

const refusedShown = 50 // paths that a refusal names

// collect finds all files below a directory. What cannot be in a patch is refused, all of it at once: whoever mends a directory
// wants to do so in one go.
func collect(dir fs.FS) (names []string, err error) {
	var refused []string
	err = fs.WalkDir(dir, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == "__pycache__":
			return fs.SkipDir
		case entry.IsDir(), IsGenerated(name):
			return nil
		case !entry.Type().IsRegular():
			refused = append(refused, fmt.Sprintf("%s is not a regular file (%s)", name, entry.Type()))
			return nil
		}
		if err := checkPath(name); err != nil && name != SettingsFile { // which a whole home may hold
			refused = append(refused, strings.TrimPrefix(err.Error(), ErrInvalid.Error()+": "))
		}
		names = append(names, name)
		return nil
	})
	if err == nil && len(refused) > 0 {
		more := ""
		if n := len(refused) - refusedShown; n > 0 {
			more = fmt.Sprintf("; and %d more", n)
		}
		return nil, invalid("%s%s", strings.Join(refused[:min(len(refused), refusedShown)], "; "), more)
	}
	return names, err
}

// describe reads a file; what tells what it seems to hold that should not leave this host.
func describe(dir fs.FS, name string) (f File, what string, err error) {
	in, err := dir.Open(name)
	if err != nil {
		return f, "", err
	}
	defer func() { _ = in.Close() }()
	info, err := in.Stat()
	if err != nil {
		return f, "", err
	}
	sum, look := sha256.New(), secret.Look{}
	size, err := io.Copy(io.MultiWriter(sum, &look), in)
	if err != nil {
		return f, "", err
	}
	return File{Path: name, Mode: modeOf(info), Size: size, SHA256: hex.EncodeToString(sum.Sum(nil))}, cmp.Or(secret.ByName(name),
		look.What()), nil
}

func hasFile(files []File, name string) bool {
	for _, f := range files {
		if strings.EqualFold(f.Path, name) {
			return true
		}
	}
	return false
}

// writeHead writes what comes before the files.
func writeHead(archive *bundle.Writer, m Manifest, signer Signer) error {
	manifest, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	if len(manifest) > maxManifestBytes {
		return invalid("its manifest is larger than %d bytes", maxManifestBytes)
	}
	sig, err := json.MarshalIndent(signature{signer.KeyID(), signer.Sign(manifest)}, "", "  ")
	if err != nil {
		return fmt.Errorf("sign patch: %w", err)
	}
	err = writeEntry(archive, manifestEntry, m.Created, manifest)
	if err == nil {
		err = writeEntry(archive, signatureEntry, m.Created, sig)
	}
	return err
}

func writeArchive(w io.Writer, dir fs.FS, m Manifest, signer Signer) error {
	archive, err := bundle.NewWriter(w)
	if err != nil {
		return err
	}
	err = writeHead(archive, m, signer)
	for i := 0; err == nil && i < len(m.Files); i++ {
		err = copyFile(archive, dir, m.Files[i], m.Created)
	}
	return errors.Join(err, archive.Close())
}

func writeEntry(archive *bundle.Writer, name string, created time.Time, data []byte) error {
	if err := archive.Begin(name, 0o644, int64(len(data)), created); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err := archive.Write(data)
	return err
}

func copyFile(archive *bundle.Writer, dir fs.FS, f File, created time.Time) error {
	in, err := dir.Open(f.Path)
	if err != nil {
		return fmt.Errorf("read files of the patch: %w", err)
	}
	defer func() { _ = in.Close() }()
	if err := archive.Begin(filesPrefix+f.Path, f.Mode.perm(), f.Size, created); err != nil {
		return fmt.Errorf("write %s: %w", f.Path, err)
	}
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(archive, sum), in); err != nil && !errors.Is(err, tar.ErrWriteTooLong) {
		return fmt.Errorf("write %s: %w", f.Path, err)
	}
	if hex.EncodeToString(sum.Sum(nil)) != f.SHA256 {
		return fmt.Errorf("%s changed while the patch was built; try again when nothing writes to it", f.Path)
	}
	return nil
}
