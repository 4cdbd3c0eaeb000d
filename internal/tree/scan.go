package tree

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// Scanner reads a home again and again. A file whose size, mode and time are as before is not read a second time. It belongs to one goroutine.
type Scanner struct {
	root   *os.Root
	ignore Ignore
	seen   map[string]stamp
}

// stamp is by what a file is recognized that has not changed.
type stamp struct {
	File
	changed time.Time
	read    time.Time // when the content was read
}

// settles is how old a file has to be for its time to say that it has not changed: two changes shortly after each other may have the same time.
const settles = 2 * time.Second

// NewScanner returns a scanner for a home.
func NewScanner(root *os.Root, ignore Ignore) *Scanner {
	return &Scanner{root: root, ignore: ignore, seen: map[string]stamp{}}
}

// Scan reads the home. A file that goes away meanwhile is not in the tree; links and devices never are, and links to directories are not followed. It
// fails if a file cannot be read, or ctx ends.
func (s *Scanner) Scan(ctx context.Context) (Tree, error) {
	found, seen := Tree{}, map[string]stamp{}
	err := fs.WalkDir(s.root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist) && name != ".":
			return nil
		case err != nil:
			return err
		case name == ".":
			return nil
		case s.ignore.Match(name, entry.IsDir()):
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case !entry.Type().IsRegular():
			return nil
		}
		f, err := s.file(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		found[name], seen[name] = f.File, f
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read OMFLOW_HOME: %w", err)
	}
	s.seen = seen
	return found, nil
}

// Read is the digest of one file, or empty if there is none, or no regular one.
func Read(root *os.Root, name string) (string, error) {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	sum, _, err := digest(root, name)
	return sum, err
}

func digest(root *os.Root, name string) (sum string, size int64, err error) {
	in, err := root.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = in.Close() }()
	h := sha256.New()
	if size, err = io.Copy(h, in); err != nil {
		return "", 0, fmt.Errorf("read %s: %w", name, err)
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}

func (s *Scanner) file(name string) (stamp, error) {
	info, err := s.root.Lstat(name)
	if err != nil {
		return stamp{}, err
	}
	now := stamp{File: File{Size: info.Size(), Mode: patch.Mode(info.Mode().Perm())}, changed: info.ModTime(), read: time.Now()}
	if was, ok := s.seen[name]; ok && was.Size == now.Size && was.changed.Equal(now.changed) && was.read.Sub(was.changed) > settles {
		now.SHA256, now.read = was.SHA256, was.read
		return now, nil
	}
	now.SHA256, now.Size, err = digest(s.root, name)
	return now, err
}
