package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
	"github.com/omflow-booster/omflow-booster/internal/tree"
)

// conflicts are the files of a patch that were changed here since, and that the patch knows nothing of. One may be in the way of a directory that the patch
// brings.
func (d *drift) conflicts(m patch.Manifest) (paths []string, err error) {
	mayGo := slices.Clone(m.Deletions)
	for _, f := range m.Files {
		if way, kind, err := tree.InTheWay(d.home, f.Path); err != nil {
			return nil, err
		} else if way != "" && kind.IsRegular() {
			mayGo = append(mayGo, way)
		}
		is, err := tree.Read(d.home, f.Path)
		if err != nil {
			return nil, err
		}
		if is == "" || is == f.SHA256 {
			continue
		}
		if f.Base != "" && is != f.Base || f.Base == "" && !d.known(f.Path, is) {
			paths = append(paths, f.Path)
		}
	}
	slices.Sort(mayGo)
	for _, name := range slices.Compact(mayGo) {
		is, err := tree.Read(d.home, name)
		if err != nil {
			return nil, err
		}
		if is != "" && !d.known(name, is) {
			paths = append(paths, name)
		}
	}
	return paths, nil
}

// resolve waits while a patch and this server contradict each other, and returns the files that are to stay as they are here.
func (f *follower) resolve(ctx context.Context, turn rollout.Turn, a patch.Announcement, m patch.Manifest) (keep []string, err error) {
	var paths []string
	if f.drift.book().Published.Patch == a.ID { // whatever was changed here after it was found goes on top of it
		return f.drift.conflicts(m)
	}
	said := ""
	stay, err := turn.Resolve(ctx, func() (string, error) {
		var err error
		if paths, err = f.drift.conflicts(m); err != nil || len(paths) == 0 {
			return "", err
		}
		return fmt.Sprintf("%s changed here and by the patch; say what holds: omflow-booster patch resolve %s --take patch|server", someOf(paths), a.ID), nil
	}, func(why string) {
		f.giver.set(nil) // nobody makes the files for a new server while this one waits
		f.setState(stateConflict + why)
		f.setNext("") // whoever has a turn, and cannot use it, keeps nobody waiting
		f.setWants("")
		if why == said {
			return
		}
		said = why
		f.log.Warn().Str(logging.Patch, a.ID).Strs("files", paths).Msg("conflict: files were changed here and by the patch")
		r := f.report(a, patch.StateConflict)
		r.Error = why
		f.tell(r)
	})
	if err != nil || !stay {
		return nil, err
	}
	return paths, nil
}

func someOf(paths []string) string {
	const shown = 3
	some := strings.Join(paths[:min(shown, len(paths))], ", ")
	switch more := len(paths) - shown; {
	case len(paths) == 1:
		return some + " was"
	case more > 0:
		return fmt.Sprintf("%s and %d more were", some, more)
	}
	return some + " were"
}
