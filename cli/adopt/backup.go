package adopt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/diagnosis"
)

// keepCopy keeps the settings as they are outside the home, for this account alone: they hold the password of the database, and
// an agent brings what lies in the home to every server.
func (ad *Adoption) keepCopy(content []byte) (path string, err error) {
	home, err := filepath.Abs(ad.Home)
	if err != nil {
		return "", err
	}
	dir := ad.Backups
	if dir == "" {
		dir = filepath.Dir(home)
	}
	if inside(home, dir) {
		return "", fmt.Errorf("--backup %s is in the home of the server, whose files agents bring to every server", dir)
	}
	path = filepath.Join(dir, filepath.Base(home)+"-settings.py.before-"+time.Now().Format("20060102-150405.000"))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", fmt.Errorf("%w; name another directory with --backup", err)
	}
	_, err = f.Write(content)
	return path, errors.Join(err, f.Sync(), f.Close())
}

// inside tells whether dir is home or below it, whatever links lead there.
func inside(home, dir string) bool {
	for _, path := range []*string{&home, &dir} {
		if target, err := filepath.EvalSymlinks(*path); err == nil {
			*path = target
		}
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return false
	}
	rel, err := filepath.Rel(home, abs)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// formerCopies finds what former versions left in the home.
func (ad *Adoption) formerCopies() []diagnosis.Finding {
	left, err := filepath.Glob(ad.settings() + ".before-*")
	if err != nil || len(left) == 0 {
		return nil
	}
	return []diagnosis.Finding{diagnosis.Warning("copies",
		strings.Join(left, ", ")+": copies of the settings, with the password of the database",
		"move them out of the home: an agent may bring them to every server")}
}
