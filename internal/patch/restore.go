package patch

import (
	"errors"
	"io/fs"
	"path"
	"time"
)

// Restore takes back what Stage and Switch have done: replaced and deleted files are there as they were, new files and new
// directories are not. The server must be stopped, unless the phase is Staging. A reason makes the report say that the patch
// was rolled back; without one it is to be tried again. After an error, or a crash, it is done again; until it succeeds the
// home may lie between two versions. It changes nothing if the journal is Idle or Restored.
func (j *Journal) Restore(reason string) error {
	r := j.record
	switch r.Phase {
	case Idle, Restored:
		return nil
	case Proven:
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
		if err := j.restoreFile(i); err != nil {
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

// restoreFile can be done twice. While Staging the file itself is untouched, and a backup may be a part of a copy.
func (j *Journal) restoreFile(i int) error {
	c, backup := j.record.Changes[i], j.oldName(i)
	if j.record.Phase != Staging {
		there, err := j.home.exists(backup)
		switch {
		case err != nil:
			return err
		case there:
			err = j.home.rename("restore rename", backup, c.Path)
		case !c.Old:
			err = j.home.remove("restore remove", c.Path)
		}
		if err != nil {
			return err
		}
	}
	// A file that has not been replaced yet is the same one under both names: renaming one to the other does nothing.
	if err := j.home.remove("restore forget backup", backup); err != nil {
		return err
	}
	return j.home.remove("restore forget staged", j.newName(i))
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
