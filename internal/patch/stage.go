package patch

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
)

// Stage checks an artifact against the home and writes its files, synced, into the home under temporary names: everything that
// needs room or rights. The server may run. begun is what the report of the patch begins with. If Stage fails, the home is as
// it was and the journal Idle, unless the error says otherwise. An error that matches ErrInvalid is final; any other may pass.
//
// Files named in keep stay as they are on this server, whatever the patch says.
func (j *Journal) Stage(artifact io.Reader, limit int64, begun Report, keep ...string) error {
	return j.StageExact(artifact, limit, begun, nil, keep...)
}

// StageExact is Stage for a home that is to have what the artifact holds and nothing else: files named in remove go away, too.
func (j *Journal) StageExact(artifact io.Reader, limit int64, begun Report, remove []string, keep ...string) error {
	if j.record.Phase != Idle {
		return fmt.Errorf("patch %s is under way (%s)", j.record.Report.Patch, j.record.Phase)
	}
	s := staging{Journal: j, remove: remove, keep: keep, into: make(map[int]string)}
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
	if failed := j.Restore(""); failed != nil {
		return errors.Join(err, failed)
	}
	return errors.Join(err, j.End())
}

// staging is a journal while an artifact goes by.
type staging struct {
	*Journal
	remove, keep []string       // paths
	into         map[int]string // where a file of the manifest is written; one that is not here stays as it is
}

// begin writes into the journal what is about to change, and makes the directories for it. Files that the home has already are left alone.
func (s *staging) begin(m Manifest, begun Report) error {
	p := plan{
		staging: s, into: make(map[int]place), turned: make(map[string]int),
		record: record{
			Phase: Staging, Home: s.homeName(), Report: begun, Hooks: m.Hooks,
			Content: Content{m.Files, append(slices.Clone(m.Deletions), s.remove...), m.Whole},
		},
	}
	p.Report.Patch = m.ID
	for i, f := range m.Files {
		if err := p.bring(i, f); err != nil {
			return err
		}
	}
	for _, name := range p.Content.Deletions {
		if err := p.drop(name); err != nil {
			return err
		}
	}
	p.Made = s.missing(p.Changes)
	if err := s.mark(p.record); err != nil {
		return err
	}
	for i, at := range p.into {
		s.into[i] = path.Join(s.newName(at.change), at.below)
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
	for i, c := range s.record.Changes {
		if len(c.NewDirs) > 0 {
			if err := s.home.removeAll("stage clear directory", s.newName(i)); err != nil { // what is left of an earlier try
				return err
			}
		}
	}
	for _, dir := range append(slices.Clone(s.record.Made), s.newDirs()...) {
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
	name, ok := s.into[index]
	if !ok {
		return nil
	}
	return s.home.write("stage", name, in, func() error {
		replaces := f.Path
		if dir := path.Dir(name); dir != path.Dir(f.Path) { // in a directory that is new
			replaces = name
		}
		if err := s.home.do("stage own", name, func() error { return keepOwner(s.home.root, name, replaces) }); err != nil {
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
