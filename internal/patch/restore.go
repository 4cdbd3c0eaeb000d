package patch

import (
	"errors"
	"io/fs"
	"path"
	"strings"
	"time"
)

// Restore undoes what Stage and Switch have done: replaced and deleted files are there as they were, new files and new
// directories are not. The server must be stopped, unless the phase is Staging. A reason makes the report say that the patch
// was rolled back; without one it is to be tried again. After an error, or a crash, it is done again; until it succeeds the
// home may lie between two versions. It changes nothing if the journal is Idle or Restored.
func (j *Journal) Restore(reason string) error {
	r := j.record
	switch r.Phase {
	case Idle, Restored:
		return nil
	case Committed:
		return errors.New("patch " + r.Report.Patch + " is in place for good")
	}
	if reason != "" {
		r.Report.State, r.Report.Error, r.Report.To, r.Report.Finished = StateRolledBack, reason, r.Report.From, time.Now()
	}
	if r.Phase == Switched {
		r.Phase = Restoring
		if err := j.mark(r); err != nil {
			return err
		}
	}
	j.record = r
	if err := j.ensure(); err != nil {
		return err
	}
	for i := len(r.Changes) - 1; i >= 0; i-- {
		if err := j.restoreOne(i); err != nil {
			return err
		}
	}
	for i := len(r.Made) - 1; i >= 0; i-- {
		if err := j.removeDir(r.Made[i]); err != nil {
			return err
		}
	}
	if err := j.home.sync("restore sync directory", j.dirs()); err != nil {
		return err
	}
	j.record.Phase = Restored
	return nil
}

// restoreOne can be done twice. While Staging the file itself is untouched, and a backup may be a part of a copy.
func (j *Journal) restoreOne(i int) error {
	c, backup := j.record.Changes[i], j.oldName(i)
	if j.record.Phase != Staging {
		there, err := j.home.exists(backup)
		if err == nil && (there || !c.Old) {
			err = j.clearPlace(i)
		}
		if err == nil && there {
			err = j.home.rename("restore rename", backup, c.Path)
		}
		if err != nil {
			return err
		}
	}
	if !c.OldDir {
		// A file that has not been replaced yet is the same one under both names: renaming one to the other does nothing.
		if err := j.home.remove("restore forget backup", backup); err != nil {
			return err
		}
	}
	if len(c.NewDirs) > 0 {
		return j.removeNew(i)
	}
	return j.home.remove("restore forget staged", j.newName(i))
}

// clearPlace takes away what stands in the place of what was there, unless a rename replaces it.
func (j *Journal) clearPlace(i int) error {
	c := j.record.Changes[i]
	if len(c.NewDirs) > 0 {
		info, err := j.home.root.Lstat(c.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir():
			return nil
		case err != nil:
			return err
		}
		return j.home.rename("restore put aside", c.Path, j.newName(i)) // it was staged there
	}
	if c.Old && !c.OldDir {
		return nil
	}
	return j.home.remove("restore remove", c.Path)
}

// removeNew removes a directory that was to take the place of a file, wherever the patch and Python alone have written in it.
// Otherwise it stays beside the file: what the server has written in it may be of value.
func (j *Journal) removeNew(i int) error {
	dir := j.newName(i)
	foreign, err := j.foreign(i)
	if err != nil {
		return err
	}
	if !foreign {
		return j.home.removeAll("restore forget staged", dir)
	}
	j.record.Report.Error = strings.TrimPrefix(j.record.Report.Error+"; what was written in "+j.record.Changes[i].Path+"/ is now in "+
		j.keptName(i), "; ")
	return j.home.rename("restore keep", dir, j.keptName(i))
}

// foreign tells whether there is something in a new directory that neither the patch has brought nor Python has generated.
func (j *Journal) foreign(i int) (foreign bool, err error) {
	dir, brought := j.newName(i), make(map[string]bool)
	for _, f := range j.record.Content.Files {
		brought[f.Path] = true
	}
	err = fs.WalkDir(j.home.root.FS(), dir, func(name string, entry fs.DirEntry, err error) error {
		inPlace := j.record.Changes[i].Path + strings.TrimPrefix(name, dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case entry.IsDir() && IsGenerated(name):
			return fs.SkipDir
		case !entry.IsDir() && !IsGenerated(name) && !brought[inPlace]:
			foreign = true
			return fs.SkipAll
		}
		return nil
	})
	return foreign, err
}

// removeDir removes a directory that the patch made, and what Python has compiled in it. One in which the server keeps
// something else stays.
func (j *Journal) removeDir(dir string) error {
	d, err := j.home.root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	entries, err := d.ReadDir(-1)
	if err = errors.Join(err, d.Close()); err != nil {
		return err
	}
	foreign := false
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if !IsGenerated(name) {
			foreign = true
			continue
		}
		if err := j.home.do("restore clear", name, func() error { return j.home.root.RemoveAll(name) }); err != nil {
			return err
		}
	}
	if foreign {
		return nil
	}
	return j.home.remove("restore remove directory", dir)
}
