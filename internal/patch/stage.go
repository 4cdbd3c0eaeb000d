package patch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
)

// Stage checks an artifact against the home and writes its files, synced, into the home under temporary names: everything that
// needs room or rights. The server may run. begun is what the report of the patch begins with. If Stage fails, the home is as
// it was and the journal Idle, unless the error says otherwise. An error that matches ErrInvalid is final; any other may pass.
//
// Files named in keep stay as they are on this server, whatever the patch says.
func (j *Journal) Stage(artifact io.Reader, limit int64, begun Report, keep ...string) error {
	if j.record.Phase != Idle {
		return fmt.Errorf("patch %s is under way (%s)", j.record.Report.Patch, j.record.Phase)
	}
	s := staging{Journal: j, keep: keep}
	m, err := walk(artifact, limit, visitor{
		begin: func(m Manifest) error { return s.begin(m, begun) },
		file:  s.file,
	})
	if err == nil {
		err = s.probe()
	}
	if err == nil || j.record.Phase == Idle {
		return err
	}
	err = fmt.Errorf("stage patch %s: %w", m.ID, err)
	if undo := j.Restore(""); undo != nil {
		return errors.Join(err, undo)
	}
	return errors.Join(err, j.End())
}

// staging is a journal while an artifact goes by.
type staging struct {
	*Journal
	keep []string // paths
	next int      // change whose file comes next
}

// begin writes into the journal what is about to change. Files that the home has already are left alone.
func (s *staging) begin(m Manifest, begun Report) error {
	r := record{Phase: Staging, Home: s.homeName(), Report: begun, Hooks: m.Hooks, Content: Content{m.Files, m.Deletions, m.Whole}}
	r.Report.Patch = m.ID
	for i, f := range m.Files {
		if slices.Contains(s.keep, f.Path) {
			continue
		}
		if err := s.checkTarget(f.Path); err != nil {
			return err
		}
		same, err := s.same(f)
		if err != nil {
			return fmt.Errorf("compare %s: %w", f.Path, err)
		}
		if !same {
			r.Changes = append(r.Changes, change{Path: f.Path, file: i})
			r.Report.Files++
			r.Report.Bytes += f.Size
		}
	}
	for _, name := range m.Deletions {
		if slices.Contains(s.keep, name) {
			continue
		}
		if err := s.checkTarget(name); err != nil {
			return err
		}
		if there, err := s.home.exists(name); err != nil || !there {
			if err != nil {
				return fmt.Errorf("look at %s: %w", name, err)
			}
			continue
		}
		r.Changes = append(r.Changes, change{Path: name, Delete: true})
		r.Report.Deleted++
	}
	r.Made = s.missing(r.Changes)
	if err := s.mark(r); err != nil {
		return err
	}
	return s.makeDirs()
}

// missing are the directories that have to be made, outer ones first.
func (s *staging) missing(changes []change) (dirs []string) {
	seen := map[string]bool{".": true}
	var look func(dir string)
	look = func(dir string) {
		if seen[dir] {
			return
		}
		seen[dir] = true
		look(path.Dir(dir))
		if there, _ := s.home.exists(dir); !there {
			dirs = append(dirs, dir)
		}
	}
	for _, c := range changes {
		look(path.Dir(c.Path))
	}
	return dirs
}

func (s *staging) makeDirs() error {
	for _, dir := range s.record.Made {
		err := s.home.do("stage make directory", dir, func() error { return s.home.root.Mkdir(dir, 0o755) })
		if err == nil {
			err = s.home.do("stage own directory", dir, func() error { return keepOwner(s.home.root, dir, dir) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// file writes one file under its temporary name, unless the home has it already.
func (s *staging) file(index int, f File, in io.Reader) error {
	i := s.next
	if i == len(s.record.Changes) || s.record.Changes[i].Delete || s.record.Changes[i].file != index {
		return nil
	}
	s.next++
	name := s.newName(i)
	return s.home.write("stage", name, in, func() error {
		if err := s.home.do("stage own", name, func() error { return keepOwner(s.home.root, name, f.Path) }); err != nil {
			return err
		}
		// After the owner: changing that may clear bits.
		return s.home.do("stage mode", name, func() error { return s.home.root.Chmod(name, f.Mode.perm()) })
	})
}

// probe shows that a directory can be written in which files are only to be deleted, while nothing has stopped yet.
func (s *staging) probe() error {
	for i, c := range s.record.Changes {
		if !c.Delete {
			continue
		}
		var out io.Closer
		name := s.newName(i)
		err := s.home.do("stage probe", name, func() (err error) {
			out, err = s.home.root.Create(name)
			return err
		})
		if err != nil {
			return err
		}
		if err := errors.Join(out.Close(), s.home.remove("stage end probe", name)); err != nil {
			return err
		}
	}
	return nil
}

// checkTarget refuses a home in which a file has no place.
func (j *Journal) checkTarget(name string) error {
	for i, c := range name {
		if c != '/' {
			continue
		}
		dir := name[:i]
		info, err := j.home.root.Lstat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // so is everything below
		case err != nil:
			return fmt.Errorf("look at %s: %w", dir, err)
		case info.Mode()&fs.ModeSymlink != 0:
			// It may lead to the logs or uploads, if not out of the home.
			return invalid("%s is a symbolic link on this server; a patch goes through real directories only", dir)
		case !info.IsDir():
			return invalid("%s is not a directory on this server, so %s has no place", dir, name)
		}
	}
	info, err := j.home.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at %s: %w", name, err)
	case !info.Mode().IsRegular():
		return invalid("%s is not a regular file on this server (%s)", name, info.Mode().Type())
	}
	return nil
}

// same tells whether the home has the file already.
func (j *Journal) same(f File) (bool, error) {
	info, err := j.home.root.Lstat(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || info.Size() != f.Size || !samePerm(info.Mode(), f.Mode) {
		return false, err
	}
	in, err := j.home.root.Open(f.Path)
	if err != nil {
		return false, err
	}
	defer func() { _ = in.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, in); err != nil {
		return false, err
	}
	return hex.EncodeToString(sum.Sum(nil)) == f.SHA256, nil
}
