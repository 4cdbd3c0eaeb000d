// Package uploads proves that OMFLOW Servers share one directory of uploaded files.
//
// A marker in the directory holds a few random marks, the newest first. The first worker that looks after it replaces the marker now and
// then, with one mark more; so two directories of which one was copied from the other have nothing in common a few minutes
// later, and those of one directory always have a mark in common, also while a network file system shows one host what the
// others saw a moment ago. (Two that make the very first marker in the same moment differ until they look again.)
package uploads

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/atomicfile"
)

const (
	// Marker is the name of the file in the directory. Agents publish no file whose name begins so (internal/tree).
	Marker = ".booster-shared"

	kept      = 3                // marks in it
	lookEvery = 10 * time.Second // so often a Keeper looks
	turnEvery = time.Minute      // a marker that a Keeper has seen for so long it replaces
	timeout   = 30 * time.Second // a look that takes longer: the file system does not answer
)

// State is what one host sees of its directory, as JSON in heartbeats.
type State struct {
	Dir     string   `json:"dir"`
	Marks   []string `json:"marks,omitempty"`   // newest first
	Problem string   `json:"problem,omitempty"` // why there are none
}

// Shares tells whether both are one directory, as far as the marks tell.
func (s State) Shares(other State) bool {
	return slices.ContainsFunc(s.Marks, func(mark string) bool { return slices.Contains(other.Marks, mark) })
}

// Read looks at a directory, and leaves it as it is. A directory without a marker has no marks, and that is no problem.
func Read(ctx context.Context, dir string) State {
	return bounded(ctx, dir, func() ([]string, error) { return read(dir) })
}

// Keeper looks after the marker of a directory, beside other hosts that do the same.
type Keeper struct {
	dir    string
	marks  []string // as it has seen them last
	since  time.Time
	latest atomic.Pointer[State]
}

// NewKeeper makes one; Run works.
func NewKeeper(dir string) *Keeper { return &Keeper{dir: dir} }

// State is what it saw last; nil before its first look, and of no keeper.
func (k *Keeper) State() *State {
	if k == nil {
		return nil
	}
	return k.latest.Load()
}

// Run looks until ctx ends. A file system that does not answer leaves one goroutine waiting in the kernel, until it does.
func (k *Keeper) Run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		looked := make(chan struct{})
		look, cancel := context.WithTimeout(ctx, timeout)
		state := bounded(look, k.dir, func() ([]string, error) {
			defer close(looked)
			return k.look(time.Now())
		})
		cancel()
		if ctx.Err() != nil {
			return
		}
		k.latest.Store(&state)
		select { // never a second one beside one that hangs
		case <-looked:
		case <-ctx.Done():
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// look reads the marker, and replaces one that is not there or has been the same for long.
func (k *Keeper) look(now time.Time) ([]string, error) {
	marks, err := read(k.dir)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(marks, k.marks) {
		k.marks, k.since = marks, now
	}
	if len(marks) > 0 && now.Sub(k.since) < turnEvery {
		return marks, nil
	}
	marks = append([]string{rand.Text()[:12]}, marks[:min(len(marks), kept-1)]...)
	// Everybody may read it: workers of several hosts and users do.
	if err := atomicfile.Write(filepath.Join(k.dir, Marker), []byte(strings.Join(marks, "\n")+"\n"), 0o644); err != nil {
		return nil, err
	}
	k.marks, k.since = marks, now
	return marks, nil
}

// read returns the marks; none if there is no marker.
func read(dir string) ([]string, error) {
	if info, err := os.Stat(dir); err != nil {
		return nil, err
	} else if !info.IsDir() {
		return nil, fmt.Errorf("%s is not a directory", dir)
	}
	text, err := os.ReadFile(filepath.Join(dir, Marker))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	marks := strings.Fields(string(text))
	return marks[:min(len(marks), kept)], err
}

// bounded looks as long as ctx lasts.
func bounded(ctx context.Context, dir string, look func() ([]string, error)) State {
	states := make(chan State, 1)
	go func() {
		state := State{Dir: dir}
		var err error
		if state.Marks, err = look(); err != nil {
			state.Problem = err.Error()
		}
		states <- state
	}()
	select {
	case state := <-states:
		return state
	case <-ctx.Done():
		return State{Dir: dir, Problem: "the file system does not answer"}
	}
}
