// Package document keeps a small JSON file and its content in memory the same: what is not on disk, nobody in the process sees.
package document

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/omflow-booster/omflow-booster/internal/atomicfile"
)

// fileMode keeps the file from other users: some documents name keys.
const fileMode = 0o600

// Document is a value that lives in a JSON file. It may be used by several goroutines. Only what JSON carries is kept: T has no
// unexported state.
type Document[T any] struct {
	path   string
	change sync.Mutex // held by the one that edits and saves

	mu    sync.Mutex // never held while the disk works: readers do not wait for it
	value T
	saved bool
}

// Open reads the file at path. One that is not there is the zero value of T, and Saved tells so.
func Open[T any](path string) (*Document[T], error) {
	d := &Document[T]{path: path}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &d.value)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	d.saved = true
	return d, nil
}

// Get returns the value that the file holds. What it refers to (maps, slices) is shared and must not be changed.
func (d *Document[T]) Get() T {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.value
}

// Saved tells whether there is a file.
func (d *Document[T]) Saved() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.saved
}

// Change edits a copy that is the editor's own down to its maps and slices, writes it to disk, and only then lets others see it. If it
// returns an error, file and value are as they were.
func (d *Document[T]) Change(edit func(v *T)) error {
	d.change.Lock()
	defer d.change.Unlock()
	next, err := clone(d.Get())
	if err != nil {
		return fmt.Errorf("save %s: %w", d.path, err)
	}
	edit(&next)
	data, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return fmt.Errorf("save %s: %w", d.path, err)
	}
	if err := atomicfile.Write(d.path, append(data, '\n'), fileMode); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.value, d.saved = next, true
	return nil
}

// clone copies by way of JSON: the one form in which all of a document is known to travel.
func clone[T any](v T) (T, error) {
	var own T
	data, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(data, &own)
	}
	return own, err
}
