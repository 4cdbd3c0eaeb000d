package broker

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/omflow-booster/omflow-booster/internal/atomicfile"
)

// Flush makes durable what the server has stored.
func (s *store) Flush() error { return syncTree(s.path(storeName)) }

// syncTree makes durable what a server has restored: it flushes what clients store, and nothing of this (nats-server 2.15.2,
// RestoreStream). The server may run meanwhile; a file that it removes needs no flush.
func syncTree(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	return fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			err = syncOne(root, dir, path, d)
		}
		if errors.Is(err, fs.ErrNotExist) && path != "." {
			return nil
		}
		return err
	})
}

func syncOne(root *os.Root, dir, path string, d fs.DirEntry) error {
	if d.IsDir() {
		return atomicfile.SyncDir(filepath.Join(dir, path))
	}
	f, err := root.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
