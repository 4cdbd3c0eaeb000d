package patch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
)

// Staged is a patch whose new files lie beside those that they will replace. The home's own files are still untouched.
// End it with Commit or Discard.
type Staged struct {
	home     *os.Root
	manifest Manifest
	temps    []string // by index of the file; "" when the home has the same file already
	made     []string // directories that were made for it, outer ones first
	touched  bool
}

// Result counts what a patch changed in a home. A file that was the same already is not counted.
type Result struct {
	Files   int   // written
	Bytes   int64 // in them
	Deleted int
}

// Stage checks an artifact against the home and writes its files, synced, into the home under temporary names. If it fails,
// the home is as it was. An error that matches ErrInvalid is final; any other may pass.
func Stage(home *os.Root, artifact io.Reader, limit int64) (*Staged, error) {
	s := &Staged{home: home}
	m, err := walk(artifact, limit, visitor{
		begin: func(m Manifest) error {
			s.manifest = m
			s.temps = make([]string, len(m.Files))
			return s.check()
		},
		file: s.stage,
	})
	if err != nil {
		return nil, errors.Join(err, s.Discard())
	}
	s.manifest = m
	return s, nil
}

// Manifest is the manifest of the staged artifact.
func (s *Staged) Manifest() Manifest { return s.manifest }

// Touched tells whether Commit has changed the home, even if it failed.
func (s *Staged) Touched() bool { return s.touched }

// check refuses a home in which the patch has no place.
func (s *Staged) check() error {
	for _, f := range s.manifest.Files {
		if err := s.checkTarget(f.Path); err != nil {
			return err
		}
	}
	for _, name := range s.manifest.Deletions {
		if err := s.checkTarget(name); err != nil {
			return err
		}
	}
	return nil
}

func (s *Staged) checkTarget(name string) error {
	for i, c := range name {
		if c != '/' {
			continue
		}
		dir := name[:i]
		info, err := s.home.Lstat(dir)
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
	info, err := s.home.Lstat(name)
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

// stage writes one file under its temporary name, unless the home has it already.
func (s *Staged) stage(i int, f File, in io.Reader) error {
	same, err := s.same(f)
	if err != nil {
		return fmt.Errorf("compare %s: %w", f.Path, err)
	}
	if same {
		return nil
	}
	if err := s.makeDir(path.Dir(f.Path)); err != nil {
		return err
	}
	// The name depends on the patch alone: what a crash leaves behind, the next try replaces.
	temp := path.Join(path.Dir(f.Path), ".booster-"+s.manifest.ID+"-"+strconv.Itoa(i))
	if err := s.home.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what is left of an earlier try: %w", err)
	}
	s.temps[i] = temp
	if err := s.write(temp, f, in); err != nil {
		return fmt.Errorf("stage %s: %w", f.Path, err)
	}
	return nil
}

func (s *Staged) write(temp string, f File, in io.Reader) error {
	out, err := s.home.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	err = errors.Join(err, out.Sync(), out.Close())
	if err != nil {
		return err
	}
	if err := keepOwner(s.home, temp, f.Path); err != nil {
		return err
	}
	return s.home.Chmod(temp, f.Mode.perm()) // after the owner: changing that may clear bits
}

func (s *Staged) same(f File) (bool, error) {
	info, err := s.home.Lstat(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || info.Size() != f.Size || !samePerm(info.Mode(), f.Mode) {
		return false, err
	}
	in, err := s.home.Open(f.Path)
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

func (s *Staged) makeDir(dir string) error {
	if dir == "." {
		return nil
	}
	if _, err := s.home.Lstat(dir); err == nil {
		return nil
	}
	if err := s.makeDir(path.Dir(dir)); err != nil {
		return err
	}
	if err := s.home.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	s.made = append(s.made, dir)
	if err := keepOwner(s.home, dir, dir); err != nil {
		return fmt.Errorf("make directory %s: %w", dir, err)
	}
	return nil
}

// Commit puts the staged files into their places, then deletes what is to go, then syncs every directory that changed.
// It takes no context, because half a patch is worse than a late stop; it is a rename for each file. After an error, Touched
// tells whether the home lies between two versions; staging and committing the same patch again brings it to the end.
func (s *Staged) Commit() (Result, error) {
	var done Result
	for i, temp := range s.temps {
		if temp == "" {
			continue
		}
		f := s.manifest.Files[i]
		if err := s.home.Rename(temp, f.Path); err != nil {
			return done, fmt.Errorf("put %s into place: %w", f.Path, err)
		}
		s.temps[i], s.touched = "", true
		done.Files++
		done.Bytes += f.Size
	}
	for _, name := range s.manifest.Deletions {
		err := s.home.Remove(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return done, fmt.Errorf("delete %s: %w", name, err)
		}
		s.touched = true
		done.Deleted++
	}
	return done, s.sync()
}

// sync makes the renames and deletions survive a power cut. It takes every directory of the patch and those above, changed
// by this try or not: an earlier try may have ended before it came to this.
func (s *Staged) sync() error {
	dirs := make(map[string]bool)
	add := func(name string) {
		for dir := path.Dir(name); !dirs[dir]; dir = path.Dir(dir) {
			dirs[dir] = true
		}
	}
	for _, f := range s.manifest.Files {
		add(f.Path)
	}
	for _, name := range s.manifest.Deletions {
		add(name)
	}
	for dir := range dirs {
		if err := syncDir(s.home, dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("sync directory %s: %w", dir, err)
		}
	}
	return nil
}

// Discard removes the temporary files and the directories that were made for them. It does nothing to what Commit has done.
func (s *Staged) Discard() error {
	var errs []error
	for i, temp := range s.temps {
		if temp == "" {
			continue
		}
		if err := s.home.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("discard staged file: %w", err))
		}
		s.temps[i] = ""
	}
	for i := len(s.made) - 1; i >= 0; i-- {
		_ = s.home.Remove(s.made[i]) // refuses one that is in use
	}
	s.made = nil
	return errors.Join(errs...)
}

// Apply stages and commits in one go, for a home whose server does not run.
func Apply(home *os.Root, artifact io.Reader, limit int64) (Result, error) {
	s, err := Stage(home, artifact, limit)
	if err != nil {
		return Result{}, err
	}
	done, err := s.Commit()
	if err != nil {
		err = errors.Join(err, s.Discard())
	}
	return done, err
}
