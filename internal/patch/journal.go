package patch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"time"
)

// What is in the directory that Open is given.
const (
	journalFile = "patch-journal.json"
	journalTemp = "." + journalFile // while it is being written
)

// Journal brings one patch after the other into a home, so that the home is found in the old or in the new version whatever
// happens, a power cut included. What it is about to do is on disk before it is done:
//
//	Idle ──Stage──▶ Staging ──Switch──▶ Switching ──▶ Switched ──Commit──▶ Committed ──End──▶ Idle
//	                   │                    │            ▼                                  ▲
//	                   └──────Restore───────┴──────▶ Restoring ──▶ Restored ──────End───────┘
//
// The server may run while the journal is in a phase that is Whole, and must be stopped for Switch and Restore unless the patch
// says that it needs no restart. After a crash Open returns the journal in the phase that the disk holds; whatever was under
// way is done again from there. A Journal is not safe for concurrent use.
type Journal struct {
	home    disk
	data    disk
	record  record
	durable bool // the phase on disk is surely that of record, after a power cut, too
}

// Phase says how far a patch is.
type Phase string

// The phases of a patch. The words are on the disks of former releases.
const (
	Idle      Phase = ""          // no patch is under way
	Staging   Phase = "staging"   // the home is as it was; new files and backups may lie beside its files
	Switching Phase = "switching" // the home lies between two versions, every old file has its backup
	Switched  Phase = "switched"  // the home is in the new version, the backups are there
	Restoring Phase = "restoring" // the home lies between two versions, on its way back
	Restored  Phase = "restored"  // the home is as it was; never on disk, restoring twice does no harm
	Committed Phase = "proven"    // the home is in the new version for good; the backups are going away
)

// Whole tells whether the home is in one version, so that a server may run on it.
func (p Phase) Whole() bool { return p != Switching && p != Restoring }

// record is what the journal has on disk.
type record struct {
	Phase   Phase    `json:"phase"`
	Home    string   `json:"home"` // where the files are: the journal of one home would spoil another one
	Report  Report   `json:"report"`
	Hooks   Hooks    `json:"hooks"`
	Changes []change `json:"changes"` // by which names of temporary files are counted
	Content Content  `json:"content"`
	Made    []string `json:"made"` // directories that are not there without the patch, outer ones first
}

// change is what happens to one file, or to a directory that takes the place of one, or whose place one takes.
type change struct {
	Path   string `json:"path"`
	Delete bool   `json:"delete"`
	Old    bool   `json:"old"` // there was something, and it has a backup; known from Switching on

	// there is a directory, which goes away with all that is in it; it is its own backup, under another name
	OldDir  bool     `json:"old_dir,omitempty"`
	NewDirs []string `json:"new_dirs,omitempty"` // a directory comes: it (".") and those in it, outer ones first
}

// Content is what the home has once a patch is in place, and what of that belongs to the patch: files that were the same already are in it.
type Content struct {
	Files     []File   `json:"files"`
	Deletions []string `json:"deletions"`
	Whole     bool     `json:"whole"` // these are all files of a home
}

// Open returns the journal of a home, which is kept in data. If an earlier life has left a patch under way, the journal is in
// its phase. It fails if it cannot be read, or is that of another home.
func Open(home, data *os.Root, before Before) (*Journal, error) {
	j := &Journal{home: disk{home, before}, data: disk{data, before}}
	_ = j.data.remove("journal open clear", journalTemp) // the next one that is written replaces it, too
	file := filepath.Join(data.Name(), journalFile)
	content, err := data.ReadFile(journalFile)
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err == nil {
		err = json.Unmarshal(content, &j.record)
	}
	if err != nil {
		return nil, fmt.Errorf("read journal of an interrupted patch: %s: %w", file, err)
	}
	if here := j.homeName(); here != j.record.Home && !j.isHome(j.record.Home) {
		return nil, fmt.Errorf("%s is the journal of a patch that was interrupted in %s, and OMFLOW_HOME is %s: set it back once, or remove "+
			"the journal if that home is gone",
			file, j.record.Home, here)
	}
	return j, nil
}

// Phase returns how far the patch is.
func (j *Journal) Phase() Phase { return j.record.Phase }

// Report returns what is known of the patch. Its state is StateApplied from Committed on, StateRolledBack once Restore was given
// a reason, and empty before and if the patch is to be tried again.
func (j *Journal) Report() Report { return j.record.Report }

// Content returns what the patch that is under way brings and removes.
func (j *Journal) Content() Content { return j.record.Content }

// Hooks is what the patch wants done besides its files. Doing it is the caller's business, between Switch and Commit.
func (j *Journal) Hooks() Hooks { return j.record.Hooks }

// Commit is called when the server has shown that it is healthy in the new version: there is no way back from then on.
func (j *Journal) Commit() error {
	r := j.record
	r.Phase, r.Report.State, r.Report.Finished = Committed, StateApplied, time.Now()
	return j.mark(r)
}

// End forgets the patch, and the backups with it. It belongs after Commit or Restore, when their outcome is recorded elsewhere.
func (j *Journal) End() error {
	if err := j.ensure(); err != nil {
		return err
	}
	if j.record.Phase == Committed {
		for i := range j.record.Changes {
			if err := j.home.removeAll("forget backup", j.oldName(i)); err != nil {
				return err
			}
		}
		if err := j.home.sync("forget sync directory", j.dirs()); err != nil {
			return err
		}
	}
	if err := j.data.remove("journal end", journalFile); err != nil {
		return err
	}
	j.record, j.durable = record{}, false
	// If this is lost, the journal comes back after a power cut, and ends again.
	return j.data.sync("journal end sync directory", []string{"."})
}

// mark puts the record on disk; it is the current one from then on.
func (j *Journal) mark(r record) error {
	content, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	op := "journal " + string(r.Phase)
	err = j.data.write(op, journalTemp, bytes.NewReader(append(content, '\n')), func() error { return nil })
	if err == nil {
		err = j.data.rename(op+" rename", journalTemp, journalFile)
	}
	if err != nil {
		_ = j.data.root.Remove(journalTemp)
		return err
	}
	j.record, j.durable = r, false // the disk may hold the former one still
	return j.ensure()
}

// ensure makes the phase that we act upon the one that is found after a power cut.
func (j *Journal) ensure() error {
	if j.durable {
		return nil
	}
	op := "journal " + string(j.record.Phase) + " sync directory"
	if err := j.data.sync(op, []string{"."}); err != nil {
		return err
	}
	j.durable = true
	return nil
}

func (j *Journal) homeName() string {
	name, err := filepath.Abs(j.home.root.Name())
	if err != nil {
		return j.home.root.Name()
	}
	return name
}

// isHome tells whether a path leads to the home, as that in the journal of an older agent may.
func (j *Journal) isHome(name string) bool {
	there, err := os.Stat(name)
	here, err2 := j.home.root.Stat(".")
	return err == nil && err2 == nil && os.SameFile(there, here)
}

// newName is where the new content of a file lies until it is put into place.
func (j *Journal) newName(i int) string { return j.beside(i, "new") }

// oldName is where the backup of a file lies.
func (j *Journal) oldName(i int) string { return j.beside(i, "old") }

// keptName is where that lies which a server has written in a directory that had to make way for an old file.
func (j *Journal) keptName(i int) string { return j.beside(i, "kept") }

// beside names a file in the same directory. The name depends on the patch alone: what a crash leaves behind, the next try
// finds.
func (j *Journal) beside(i int, kind string) string {
	return path.Join(path.Dir(j.record.Changes[i].Path), tempPrefix+j.record.Report.Patch+"-"+strconv.Itoa(i)+"."+kind)
}

// tempPrefix begins the names of what lies beside the files of a home for a while.
const tempPrefix = ".booster-"

// newDirs are the directories that are staged to take the places of files, outer ones first.
func (j *Journal) newDirs() (dirs []string) {
	for i, c := range j.record.Changes {
		for _, dir := range c.NewDirs {
			dirs = append(dirs, path.Join(j.newName(i), dir))
		}
	}
	return dirs
}

// dirs are all directories in which something changes.
func (j *Journal) dirs() []string {
	return parents(func(yield func(string) bool) {
		for _, c := range j.record.Changes {
			if !yield(c.Path) {
				return
			}
		}
	})
}
