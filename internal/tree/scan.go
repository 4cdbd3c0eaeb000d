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

	"github.com/dustin/go-humanize"

	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/secret"
)

// Scanner reads a home again and again. A file that looks as before is not read a second time. It belongs to one goroutine.
type Scanner struct {
	root   *os.Root
	ignore Ignore
	seen   map[string]stamp

	rest     time.Duration // of the scan under way
	progress progress
}

// stamp is by what a file is recognized that has not changed.
type stamp struct {
	File
	inode   uint64
	changed time.Time // its content, which every program may set
	secret  string    // what it seems to hold that should not leave this host

	since  time.Time // when it was first seen as it is
	moving time.Time // when it was first seen not at rest; zero once it was read
	read   time.Time // when the content was read; SHA256 is empty before
}

// settles is how old a file has to be for its time to say that it has not changed: two changes shortly after each other may
// have the same time.
const settles = 2 * time.Second

// NewScanner returns a scanner for a home.
func NewScanner(root *os.Root, ignore Ignore) *Scanner {
	return &Scanner{root: root, ignore: ignore, seen: map[string]stamp{}}
}

// OnProgress has tell called every ten seconds of a scan that takes so long, from its goroutine.
func (s *Scanner) OnProgress(tell func(files int, bytes int64)) { s.progress.tell = tell }

// progress is how much one scan has read.
type progress struct {
	tell  func(files int, bytes int64)
	files int
	bytes int64
	told  time.Time
}

const progressEvery = 10 * time.Second

func (p *progress) begin() { p.files, p.bytes, p.told = 0, 0, time.Now() }

func (p *progress) read(bytes int64) {
	p.files, p.bytes = p.files+1, p.bytes+bytes
	if p.tell != nil && time.Since(p.told) >= progressEvery {
		p.told = time.Now()
		p.tell(p.files, p.bytes)
	}
}

// Scan reads the home. A file that was changed less than rest ago is not read: it may be written still. rest 0 reads every file
// as it is. A file that goes away meanwhile is not in the tree. What cannot be read or carried stays behind, and keeps nothing
// else from being read. It fails if the home itself cannot be read, or ctx ends.
func (s *Scanner) Scan(ctx context.Context, rest time.Duration) (Reading, error) {
	s.rest = rest
	s.progress.begin()
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
	now, err := s.file(name, entry)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return
	case err != nil:
		r.stays(name, unreadable(err))
		return
	}
	seen[name] = now
	switch {
	case now.Size > patch.DefaultLimit:
		r.stays(name, fmt.Sprintf("has %s, and a patch carries at most %s: bring it to each server by hand, or name it in AGENT_IGNORE",
			humanize.IBytes(uint64(now.Size)), humanize.IBytes(patch.DefaultLimit)))
	case now.SHA256 == "":
		r.Moving = append(r.Moving, Move{name, time.Since(now.moving)})
	case now.secret != "":
		r.Stays = append(r.Stays, Stay{name, "looks like " + now.secret + ", which nobody has asked to publish: " +
			"move it out of the home, name it in AGENT_IGNORE, or carry it with `omflow-booster patch publish --with-secrets`", now.SHA256})
	default:
		r.Files[name] = now.File
	}
}

// file looks at one file, and reads it if that tells something new: it is at rest, and not too large for a patch.
func (s *Scanner) file(name string, entry fs.DirEntry) (stamp, error) {
	info, err := entry.Info()
	if err != nil {
		return stamp{}, err
	}
	now := stamp{File: File{Size: info.Size(), Mode: patch.Mode(info.Mode().Perm())}, changed: info.ModTime(), since: time.Now()}
	now.inode, now.Altered = identity(info)
	was, known := s.seen[name]
	if known && now.looksLike(was) {
		now.since = was.since
	}
	rest := s.restOf(now.Size)
	moves := time.Since(now.since) < rest && time.Since(now.Altered) < rest
	switch {
	case now.Size > patch.DefaultLimit:
		return now, nil
	case now.since.Equal(was.since) && was.SHA256 != "" && (moves || was.read.Sub(was.Altered) > settles):
		now.SHA256, now.secret, now.read = was.SHA256, was.secret, was.read
		return now, nil
	case moves:
		if now.moving = was.moving; now.moving.IsZero() {
			now.moving = time.Now()
		}
		return now, nil
	}
	now.read = time.Now()
	return now, s.read(name, &now)
}

// restOf is longer for a large file: one that grows from time to time would be read again and again.
func (s *Scanner) restOf(size int64) time.Duration {
	const speed = 10 << 20 // bytes a second
	if s.rest == 0 {
		return 0
	}
	return s.rest + time.Duration(size/speed)*time.Second
}

func (s stamp) looksLike(was stamp) bool {
	return s.Size == was.Size && s.inode == was.inode && s.changed.Equal(was.changed) && s.Altered.Equal(was.Altered)
}

// read reads a file: its digest, and what gives away that it holds a secret.
func (s *Scanner) read(name string, into *stamp) (err error) {
	var look secret.Look
	into.SHA256, into.Size, err = digest(s.root, name, &look)
	if into.secret = secret.ByName(name); into.secret == "" {
		into.secret = look.What()
	}
	s.progress.read(into.Size)
	return err
}

// Read is the digest of one file, or empty if there is none, or no regular one. What lies behind a link is no file of the home.
func Read(root *os.Root, name string) (string, error) {
	if way, _, err := InTheWay(root, name); err != nil || way != "" {
		return "", err
	}
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	sum, _, err := digest(root, name, io.Discard)
	return sum, err
}

// InTheWay is the outermost path above name that is there and no directory: a file or a link, as its type says. It is empty if
// there is none.
func InTheWay(root *os.Root, name string) (way string, kind fs.FileMode, err error) {
	for at, c := range name {
		if c != '/' {
			continue
		}
		info, err := root.Lstat(name[:at])
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return "", 0, nil
		case err != nil:
			return "", 0, err
		case !info.IsDir():
			return name[:at], info.Mode().Type(), nil
		}
	}
	return "", 0, nil
}

// digest reads a file, and shows also what it reads.
func digest(root *os.Root, name string, also io.Writer) (sum string, size int64, err error) {
	in, err := root.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = in.Close() }()
	h := sha256.New()
	if size, err = io.Copy(io.MultiWriter(h, also), in); err != nil {
		return "", 0, fmt.Errorf("read %s: %w", name, err)
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}
