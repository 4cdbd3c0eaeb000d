package agent

import (
	"fmt"

	"github.com/omflow-booster/omflow-booster/internal/patch"
	"github.com/omflow-booster/omflow-booster/internal/tree"
)

const (
	// A difference that removes more than so many files and more than this share of them is held back.
	lostFew   = 20
	lostShare = 10
)

// heldBack says why changes are not published until somebody orders it: a lost disk looks like a version with fewer files, and older
// files that were copied over the home by mistake would be skipped by all other servers, or take them back. It is empty if they may
// go.
func heldBack(changes []tree.Change, b treeBook, version string) string {
	if b.Released == tree.DigestOf(changes) {
		return ""
	}
	missing, versionFile := 0, false
	for _, c := range changes {
		if c.Kind == tree.Missing {
			missing++
			versionFile = versionFile || c.Path == patch.VersionFile
		}
	}
	switch {
	case versionFile:
		return patch.VersionFile + " is missing, which looks like a lost disk"
	case missing > max(lostFew, len(b.Files)/lostShare):
		return fmt.Sprintf("%d of %d files are missing, which looks like a lost disk", missing, len(b.Files))
	case patch.Older(version, b.Version):
		return fmt.Sprintf("its files are of version %s, and its last patch, like the other servers, has %s", version, b.Version)
	}
	return ""
}
