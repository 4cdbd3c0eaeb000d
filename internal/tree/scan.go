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
	"path"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// Scanner reads a home again and again. A file that looks as before is not read a second time. It belongs to one goroutine.
type Scanner struct {
	root   *os.Root
	ignore Ignore
	seen   map[string]stamp
}

// stamp is by what a file is recognized that has not changed.
type stamp struct {
	File
	inode   uint64
	changed time.Time // its content, which every program may set
	altered time.Time // anything about it
	read    time.Time // when the content was read
}

// settles is how old a file has to be for its time to say that it has not changed: two changes shortly after each other may have the same time.
const settles = 2 * time.Second

// NewScanner returns a scanner for a home.
func NewScanner(root *os.Root, ignore Ignore) *Scanner {
	return &Scanner{root: root, ignore: ignore, seen: map[string]stamp{}}
}

// Scan reads the home. A file that goes away meanwhile is not in the tree. What cannot be read or carried stays behind, and keeps nothing else from
// being read. It fails if the home itself cannot be read, or ctx ends.
func (s *Scanner) Scan(ctx context.Context) (Reading, error) {
	r, seen := Reading{Files: Tree{}}, make(map[string]stamp, len(s.seen))
	if err := s.dir(ctx, ".", &r, seen); err != nil {
		return Reading{}, fmt.Errorf("read OMFLOW_HOME: %w", err)
	}
	s.seen = seen
	r.sort()
	return r, nil
}

// dir reads one directory with all that is below it.
func (s *Scanner) dir(ctx context.Context, dir string, r *Reading, seen map[string]stamp) error {
	entries, err := s.entries(dir)
	for _, entry := range entries {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		name := path.Join(dir, entry.Name())
		if s.ignore.Match(name, entry.IsDir()) {
			continue
		}
		switch why := patch.PathProblem(name); {
		case why != "":
			r.stays(name, why)
		case entry.IsDir():
			if err := s.dir(ctx, name, r, seen); err != nil {
				return err
			}
		case entry.Type()&fs.ModeSymlink != 0:
			r.stays(name, "is a link, which no patch carries: put the file itself there, or name the link in AGENT_IGNORE")
		case entry.Type().IsRegular():
			s.regular(name, entry, r, seen)
		}
	}
	switch {
	case err == nil || errors.Is(err, fs.ErrNotExist) && dir != ".":
		return nil
	case dir == ".":
		return err
	}
	r.stays(dir, unreadable(err))
	return nil
}

// entries may return some of them and an error.
func (s *Scanner) entries(dir string) ([]fs.DirEntry, error) {
	in, err := s.root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	return in.ReadDir(-1)
}

func (s *Scanner) regular(name string, entry fs.DirEntry, r *Reading, seen map[string]stamp) {
	f, err := s.file(name, entry)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		r.stays(name, unreadable(err))
	default:
		r.Files[name], seen[name] = f.File, f
	}
}

func (s *Scanner) file(name string, entry fs.DirEntry) (stamp, error) {
	info, err := entry.Info()
	if err != nil {
		return stamp{}, err
	}
	now := stamp{File: File{Size: info.Size(), Mode: patch.Mode(info.Mode().Perm())}, changed: info.ModTime(), read: time.Now()}
	now.inode, now.altered = identity(info)
	if was, ok := s.seen[name]; ok && now.looksLike(was) && was.read.Sub(was.altered) > settles {
		now.SHA256, now.read = was.SHA256, was.read
		return now, nil
	}
	now.SHA256, now.Size, err = digest(s.root, name)
	return now, err
}

func (s stamp) looksLike(was stamp) bool {
	return s.Size == was.Size && s.inode == was.inode && s.changed.Equal(was.changed) && s.altered.Equal(was.altered)
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
