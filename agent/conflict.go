package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/rollout"
	"github.com/omflow-booster/omflow-booster/internal/tree"
)

// conflicts finds where a patch and this server contradict each other, and waits until somebody decides.
type conflicts struct {
	home     *homeDir
	baseline baselineView
	donor    withdrawer
	status   *status
	reports  mentioner
	log      zerolog.Logger
}

// What conflicts needs of others.
type (
	baselineView interface {
		known(name, digest string) bool // tells whether a file is as its baseline says
		isOwn(patchID string) bool      // tells whether a patch was made of changes that were found here
	}
	withdrawer interface {
		withdraw() // offers no more files to new servers
	}
	mentioner interface {
		mention(a patch.Announcement, state, reason string) // reports a state that is not final
	}
)

func newConflicts(c conflicts) (*conflicts, error) { return complete(&c) }

// find returns the files of a patch that were changed here since, and that the patch knows nothing of. One may be in the way of a
// directory that the patch brings.
func (c *conflicts) find(m patch.Manifest) (paths []string, err error) {
	mayGo := slices.Clone(m.Deletions)
	for _, f := range m.Files {
		if way, kind, err := tree.InTheWay(c.home.Root, f.Path); err != nil {
			return nil, err
		} else if way != "" && kind.IsRegular() {
			mayGo = append(mayGo, way)
		}
		is, err := tree.Read(c.home.Root, f.Path)
		if err != nil {
			return nil, err
		}
		if is == "" || is == f.SHA256 {
			continue
		}
		if f.Base != "" && is != f.Base || f.Base == "" && !c.baseline.known(f.Path, is) {
			paths = append(paths, f.Path)
		}
	}
	slices.Sort(mayGo)
	for _, name := range slices.Compact(mayGo) {
		is, err := tree.Read(c.home.Root, name)
		if err != nil {
			return nil, err
		}
		if is != "" && !c.baseline.known(name, is) {
			paths = append(paths, name)
		}
	}
	return paths, nil
}

// resolve waits while a patch and this server contradict each other, and returns the files that are to stay as they are here.
func (c *conflicts) resolve(ctx context.Context, turn rollout.Turn, a patch.Announcement, m patch.Manifest) (keep []string, err error) {
	var paths []string
	if c.baseline.isOwn(a.ID) { // whatever was changed here after it was found goes on top of it
		return c.find(m)
	}
	said := ""
	stay, err := turn.Resolve(ctx, func() (string, error) {
		var err error
		if paths, err = c.find(m); err != nil || len(paths) == 0 {
			return "", err
		}
		return fmt.Sprintf("%s changed here and by the patch; say what holds: omflow-booster patch resolve %s --take patch|server",
			someOf(paths), a.ID), nil
	}, func(why string) {
		c.donor.withdraw() // nobody makes the files for a new server while this one waits
		c.status.set(stateConflict + why)
		c.status.setNext("") // a server that cannot use its turn keeps no other one waiting
		c.status.setWants("")
		if why == said {
			return
		}
		said = why
		c.log.Warn().Str(logging.Patch, a.ID).Strs("files", paths).Msg("conflict: files were changed here and by the patch")
		c.reports.mention(a, patch.StateConflict, why)
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
