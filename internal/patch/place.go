package patch

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"
)

// plan is what a patch changes in this home, while it is found out.
type plan struct {
	*staging
	record
	into   map[int]place
	turned map[string]int // change of a path that becomes a directory, or was one
}

// place is where a file of the manifest is staged: as the new content of a change, or below it.
type place struct {
	change int
	below  string
}

// bring plans a file that the patch has.
func (p *plan) bring(index int, f File) error {
	if slices.Contains(p.keep, f.Path) {
		return nil
	}
	there, file, err := p.lookAt(f.Path)
	if err != nil {
		return err
	}
	switch {
	case file != "": // the patch makes a directory of it
		if slices.Contains(p.keep, file) {
			return nil
		}
		p.bringBelow(index, file, f)
	case there == isDir: // the patch makes a file of it
		if slices.ContainsFunc(p.keep, func(kept string) bool { return below(f.Path, kept) }) {
			return nil
		}
		if err := p.mayGo(f.Path, p.Content.Deletions); err != nil {
			return err
		}
		p.into[index] = place{change: p.change(change{Path: f.Path, OldDir: true})}
		p.turned[f.Path] = p.into[index].change
	default:
		same, err := p.same(f)
		if err != nil {
			return fmt.Errorf("compare %s: %w", f.Path, err)
		}
		if same {
			return nil
		}
		p.into[index] = place{change: p.change(change{Path: f.Path})}
	}
	p.Report.Files++
	p.Report.Bytes += f.Size
	return nil
}

func (p *plan) change(c change) int {
	p.Changes = append(p.Changes, c)
	return len(p.Changes) - 1
}

// bringBelow plans a file of a directory that takes the place of a file.
func (p *plan) bringBelow(index int, file string, f File) {
	i, known := p.turned[file]
	if !known {
		i = p.change(change{Path: file, NewDirs: []string{"."}})
		p.turned[file] = i
		p.Report.Deleted++
		if !slices.Contains(p.Content.Deletions, file) { // nobody has to say that
			p.Content.Deletions = append(p.Content.Deletions, file)
		}
	}
	name := strings.TrimPrefix(f.Path, file+"/")
	p.into[index] = place{i, name}
	dirs := p.Changes[i].NewDirs
	for at, c := range name {
		if c == '/' && !slices.Contains(dirs, name[:at]) {
			dirs = append(dirs, name[:at])
		}
	}
	p.Changes[i].NewDirs = dirs
}

// drop plans a file that goes away.
func (p *plan) drop(name string) error {
	if slices.Contains(p.keep, name) {
		return nil
	}
	there, file, err := p.lookAt(name)
	if err != nil || there != isFile || file != "" {
		return err
	}
	if _, turned := p.turned[name]; turned { // with what comes in its place
		return nil
	}
	p.Report.Deleted++
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if _, turned := p.turned[dir]; turned { // with the directory
			return nil
		}
	}
	p.change(change{Path: name, Delete: true})
	return nil
}

// kind is what is at a path.
type kind int

const (
	isNothing kind = iota
	isFile
	isDir
)

// lookAt tells what is at a path. file is set if there is a regular file where the path has a directory. It refuses a path that
// goes through a link, and anything at its end that is neither a file nor a directory.
func (j *Journal) lookAt(name string) (there kind, file string, err error) {
	for i, c := range name {
		if c != '/' {
			continue
		}
		dir := name[:i]
		info, err := j.home.root.Lstat(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return isNothing, "", nil // so is everything below
		case errors.Is(err, syscall.ENAMETOOLONG):
			return isNothing, "", tooLong(dir)
		case err != nil:
			return isNothing, "", fmt.Errorf("look at %s: %w", dir, err)
		case info.Mode()&fs.ModeSymlink != 0:
			// It may lead to the logs or uploads, if not out of the home.
			return isNothing, "", invalid("%s is a symbolic link on this server; a patch goes through real directories only", dir)
		case info.Mode().IsRegular():
			return isNothing, dir, nil
		case !info.IsDir():
			return isNothing, "", invalid("%s is not a directory on this server, so %s has no place", dir, name)
		}
	}
	info, err := j.home.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return isNothing, "", nil
	case errors.Is(err, syscall.ENAMETOOLONG):
		return isNothing, "", tooLong(name)
	case err != nil:
		return isNothing, "", fmt.Errorf("look at %s: %w", name, err)
	case info.IsDir():
		return isDir, "", nil
	case !info.Mode().IsRegular():
		return isNothing, "", invalid("%s is not a regular file on this server (%s)", name, info.Mode().Type())
	}
	return isFile, "", nil
}

func tooLong(name string) error {
	return invalid("%.300q is longer than the file system of this server takes", name)
}

// mayGo refuses to put a file in the place of a directory that has something of which the patch does not say that it goes away.
func (j *Journal) mayGo(dir string, deletions []string) error {
	goes := make(map[string]bool, len(deletions))
	for _, name := range deletions {
		goes[name] = true
	}
	return fs.WalkDir(j.home.root.FS(), dir, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fmt.Errorf("look at %s: %w", name, err)
		case entry.IsDir() && IsGenerated(name):
			return fs.SkipDir
		case entry.IsDir(), IsGenerated(name), goes[name] && entry.Type().IsRegular(), strings.HasPrefix(entry.Name(), tempPrefix):
			return nil
		}
		return invalid("%s is a directory on this server and has %s, which the patch does not delete, so no file can take its place", dir, name)
	})
}

// checkTarget refuses a home that is not any more as it was when the change was planned.
func (j *Journal) checkTarget(c change) error {
	there, file, err := j.lookAt(c.Path)
	switch {
	case err != nil:
		return err
	case file != "":
		return invalid("%s is not a directory on this server, so %s has no place", file, c.Path)
	case there == isDir && c.OldDir:
		return j.mayGo(c.Path, j.record.Content.Deletions)
	case there == isDir:
		return invalid("%s is not a regular file on this server (it is a directory)", c.Path)
	}
	return nil
}

// below tells whether name lies in the directory.
func below(dir, name string) bool { return strings.HasPrefix(name, dir+"/") }
