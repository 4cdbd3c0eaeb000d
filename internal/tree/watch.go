package tree

import (
	"cmp"
	"context"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/fsnotify/fsnotify"
)

const freshDirs = 1024 // new directories that wait to be watched

// Watch sends to moved, without waiting, when something in the home may have changed, until ctx ends. It is a hint: a kernel
// that watches no more directories, or a network disk, leaves changes to the next Scan. It fails if nothing can be watched, and
// returns nil when ctx ends. It calls partly with the first error of a directory that it cannot watch.
func Watch(ctx context.Context, home string, ignore Ignore, moved chan<- struct{}, partly func(error)) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return limit(err)
	}
	if err := limit(w.Add(home)); err != nil {
		_ = w.Close()
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	// Directories are added beside the loop that hears of events: fsnotify may hold its lock until somebody has heard of an error.
	fresh, first := make(chan string, freshDirs), make(chan error, 1)
	var adding sync.WaitGroup
	defer adding.Wait()
	defer func() { cancel(); _ = w.Close() }()
	adding.Go(func() {
		first <- watchBelow(w, home, home, ignore)
		for {
			select {
			case <-ctx.Done():
				return
			case dir := <-fresh:
				_ = watchBelow(w, home, dir, ignore) // if it is a directory
			}
		}
	})
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-first:
			if err != nil {
				partly(err)
			}
			continue
		case err, open := <-w.Errors:
			if !open {
				return err
			}
		case e, open := <-w.Events:
			if !open {
				return nil
			}
			name, err := filepath.Rel(home, e.Name)
			if err != nil || ignore.MatchPath(filepath.ToSlash(name)) || ignore.Match(filepath.ToSlash(name), true) {
				continue
			}
			if e.Has(fsnotify.Create) {
				select {
				case fresh <- e.Name:
				default: // a Scan sees what is in it
				}
			}
		}
		select {
		case moved <- struct{}{}:
		default:
		}
	}
}

// watchBelow watches a directory and all directories below it, as far as that goes, and returns the first error. Of a new one,
// files that are in it before it is watched are found by a Scan.
func watchBelow(w *fsnotify.Watcher, home, dir string, ignore Ignore) error {
	var first error
	_ = filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			first = cmp.Or(first, err)
			return nil
		}
		if rel, err := filepath.Rel(home, name); err == nil && rel != "." && ignore.Match(filepath.ToSlash(rel), true) {
			return fs.SkipDir
		}
		first = cmp.Or(first, limit(w.Add(name)))
		return nil
	})
	return first
}
