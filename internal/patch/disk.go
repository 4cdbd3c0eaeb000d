package patch

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
)

// Before is asked before every operation on a file system. op says which one, such as "switch rename", name on what. If it
// returns an error, the operation is not done and fails with that error. A test fails or ends at exactly one operation with it;
// nil lets everything happen.
type Before func(op, name string) error

// disk is a directory, all operations on which have labels.
type disk struct {
	root   *os.Root
	before Before
}

// do does one operation; its error says which one it was.
func (d disk) do(op, name string, f func() error) error {
	var err error
	if d.before != nil {
		err = d.before(op, name)
	}
	if err == nil {
		err = f()
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", op, name, err)
	}
	return nil
}

func (d disk) exists(name string) (bool, error) {
	_, err := d.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// remove asks for nothing to be done if there is nothing: a file system that is read-only would refuse even that.
func (d disk) remove(op, name string) error {
	if there, err := d.exists(name); err == nil && !there {
		return nil
	}
	return d.do(op, name, func() error {
		if err := d.root.Remove(name); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// removeAll is remove for a directory, too, with all that is in it.
func (d disk) removeAll(op, name string) error {
	if there, err := d.exists(name); err == nil && !there {
		return nil
	}
	return d.do(op, name, func() error { return d.root.RemoveAll(name) })
}

func (d disk) rename(op, from, to string) error {
	return d.do(op, to, func() error { return d.root.Rename(from, to) })
}

// write makes a file that is on the disk when write returns. finish gives it its owner and mode.
func (d disk) write(op, name string, in io.Reader, finish func() error) error {
	if err := d.remove(op+" clear", name); err != nil { // what is left of an earlier try
		return err
	}
	var out *os.File
	err := d.do(op+" create", name, func() (err error) {
		out, err = d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	_, err = io.Copy(writer{d, op + " write", name, out}, in)
	if err == nil {
		err = finish()
	}
	if err == nil {
		err = d.do(op+" sync", name, out.Sync)
	}
	return errors.Join(err, out.Close())
}

// writer writes to a file that is open.
type writer struct {
	disk     disk
	op, name string
	out      *os.File
}

func (w writer) Write(p []byte) (n int, err error) {
	err = w.disk.do(w.op, w.name, func() (err error) {
		n, err = w.out.Write(p)
		return err
	})
	return n, err
}

// sync makes what was made, renamed or deleted in directories survive a power cut. A directory that is gone needs nothing.
func (d disk) sync(op string, dirs []string) error {
	for _, dir := range dirs {
		if there, err := d.exists(dir); err == nil && !there {
			continue
		}
		if err := d.do(op, dir, func() error { return syncDir(d.root, dir) }); err != nil {
			return err
		}
	}
	return nil
}

// parents are the directories of names and all above them, each once.
func parents(names func(yield func(name string) bool)) (dirs []string) {
	seen := make(map[string]bool)
	for name := range names {
		for dir := path.Dir(name); !seen[dir]; dir = path.Dir(dir) {
			seen[dir] = true
			dirs = append(dirs, dir)
		}
	}
	return dirs
}
