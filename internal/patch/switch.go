package patch

import (
	"errors"
	"io/fs"
	"slices"
	"time"
)

// Switch brings the home into the new version: every file that will be replaced or deleted gets a backup, the journal says so,
// the staged files are renamed into their places, and what is to go is deleted. The server must be stopped, see Journal. After an error the
// journal waits for Restore. It takes no context, because a late stop is better than a way back; it is some calls for each file.
func (j *Journal) Switch() error {
	r := j.record
	r.Changes = slices.Clone(r.Changes)
	for i := range r.Changes {
		if err := j.checkTarget(r.Changes[i]); err != nil { // the server ran since Stage
			return err
		}
		old, err := j.backUp(i)
		if err != nil {
			return err
		}
		r.Changes[i].Old = old
	}
	if err := j.home.sync("back up sync directory", append(j.newDirs(), j.dirs()...)); err != nil {
		return err
	}
	r.Phase = Switching
	if err := j.mark(r); err != nil {
		return err
	}
	for i := range j.record.Changes {
		if err := j.switchOne(i); err != nil {
			return err
		}
	}
	if err := j.home.sync("switch sync directory", j.dirs()); err != nil {
		return err
	}
	r.Phase, r.Report.To = Switched, HomeVersion(j.home.root.FS())
	return j.mark(r)
}

func (j *Journal) switchOne(i int) error {
	c := j.record.Changes[i]
	switch {
	case c.Delete:
		return j.home.remove("switch delete", c.Path)
	case c.OldDir:
		if err := j.home.rename("switch put aside", c.Path, j.oldName(i)); err != nil {
			return err
		}
	case len(c.NewDirs) > 0:
		if err := j.home.remove("switch clear", c.Path); err != nil {
			return err
		}
	}
	return j.home.rename("switch rename", j.newName(i), c.Path)
}

// backUp keeps the file of a change beside it: as a second name of the same file, or as a copy where there are none. old is
// false if there is nothing. A directory is renamed when its time comes.
func (j *Journal) backUp(i int) (old bool, err error) {
	name, backup := j.record.Changes[i].Path, j.oldName(i)
	if old, err := j.home.exists(name); err != nil || !old {
		return false, err
	}
	if err := j.home.removeAll("back up clear", backup); err != nil {
		return false, err
	}
	if j.record.Changes[i].OldDir {
		return true, nil
	}
	link := j.home.do("back up link", backup, func() error { return j.home.root.Link(name, backup) })
	if link == nil {
		return true, nil
	}
	if err := j.copyFile(name, backup); err != nil {
		return false, errors.Join(link, err)
	}
	return true, nil
}

func (j *Journal) copyFile(name, backup string) error {
	in, err := j.home.root.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	return j.home.write("back up copy", backup, in, func() error {
		root := j.home.root
		if err := j.home.do("back up copy own", backup, func() error { return keepOwner(root, backup, name) }); err != nil {
			return err
		}
		if err := j.home.do("back up copy mode", backup, func() error { return root.Chmod(backup, permOf(info)) }); err != nil {
			return err
		}
		// Python tells by the time whether what it has compiled belongs to the source.
		return j.home.do("back up copy time", backup, func() error { return root.Chtimes(backup, time.Time{}, info.ModTime()) })
	})
}

// permOf keeps the bits that let a program run as somebody else, too.
func permOf(info fs.FileInfo) fs.FileMode {
	return info.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
}
