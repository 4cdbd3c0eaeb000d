// Package logfile keeps what a program writes in a file that never grows beyond a size: name.log, and the former ones as
// name.log.1 (the youngest), name.log.2 and so on.
//
// A log file is a convenience, so it never stands in the way of the program: what cannot be written is lost, which is said
// once, and tried again from time to time.
package logfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"
)

// retryEvery is the pause after a failure: the writer may write thousands of lines a second.
const retryEvery = 10 * time.Second

// checkEvery is how often it is looked whether the file is still the one that its name means: people and logrotate move it,
// remove it and empty it.
const checkEvery = time.Second

// Options say how much is kept. The disk space of all is Size × (Keep + 1).
type Options struct {
	Size int64 // bytes from which the next write goes into a new file
	Keep int   // former files
}

// File is one log with its former files. It is an io.Writer that never fails. Not for concurrent use.
type File struct {
	path    string
	options Options
	log     zerolog.Logger
	now     func() time.Time

	out    *os.File  // nil before the first write and after a failure
	size   int64     // of out
	looked time.Time // when out was last compared with the file of that name
	failed time.Time
	lost   int64 // bytes since failed; 0 while all is well
}

// New returns a log and touches nothing. log hears of trouble.
func New(path string, o Options, log zerolog.Logger) *File {
	return &File{path: path, options: o, log: log.With().Str("file", path).Logger(), now: time.Now}
}

// Write appends p, after a rotation if it does not fit. It returns len(p) and nil whatever happens.
func (f *File) Write(p []byte) (int, error) {
	if f.lost > 0 && f.now().Sub(f.failed) < retryEvery {
		f.lost += int64(len(p))
		return len(p), nil
	}
	switch err := f.write(p); {
	case err != nil:
		if f.lost == 0 {
			f.log.Warn().Err(err).Msg("log file cannot be written; going on without it")
		}
		f.failed, f.lost = f.now(), f.lost+int64(len(p))
		f.Close()
	case f.lost > 0:
		f.log.Info().Int64("lost_bytes", f.lost).Msg("log file is written again")
		f.lost = 0
	}
	return len(p), nil
}

// Close lets go of the file; a later write opens it again.
func (f *File) Close() {
	if f.out != nil {
		_ = f.out.Close() // nothing is buffered here
		f.out = nil
	}
}

// check lets go of a file that somebody else has moved or removed, and notices one that was emptied.
func (f *File) check() {
	if f.out == nil || f.now().Sub(f.looked) < checkEvery {
		return
	}
	f.looked = f.now()
	named, err := os.Stat(f.path)
	ours, failed := f.out.Stat()
	if err != nil || failed != nil || !os.SameFile(named, ours) {
		f.Close()
		return
	}
	f.size = named.Size()
}

func (f *File) write(p []byte) error {
	f.check()
	if f.out == nil {
		if err := f.open(); err != nil {
			return err
		}
	}
	if f.size > 0 && f.size+int64(len(p)) > f.options.Size {
		if err := f.rotate(); err != nil {
			return err
		}
	}
	n, err := f.out.Write(p)
	f.size += int64(n)
	return err
}

func (f *File) open() error {
	if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
		return err
	}
	out, err := os.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	info, err := out.Stat()
	if err != nil {
		return errors.Join(err, out.Close())
	}
	f.out, f.size, f.looked = out, info.Size(), f.now()
	return nil
}

// rotate makes room for a new file: each former one gets the next number, up to the first number that is free, so that a
// rotation that was interrupted costs no file.
func (f *File) rotate() error {
	f.Close() // Windows renames no file that is open
	last := 1
	for ; last < f.options.Keep; last++ {
		if _, err := os.Lstat(f.former(last)); errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	for n := last; n > 1; n-- {
		if err := os.Rename(f.former(n-1), f.former(n)); err != nil {
			return err
		}
	}
	if err := f.retire(); err != nil {
		return err
	}
	return f.open()
}

// retire ends the current file, and removes what an earlier setting kept.
func (f *File) retire() error {
	if f.options.Keep == 0 {
		if err := os.Remove(f.path); err != nil {
			return err
		}
	} else if err := os.Rename(f.path, f.former(1)); err != nil {
		return err
	}
	for n := f.options.Keep + 1; os.Remove(f.former(n)) == nil; n++ {
	}
	return nil
}

func (f *File) former(n int) string { return fmt.Sprintf("%s.%d", f.path, n) }
