package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// What is in the inbox besides the files that somebody has put there.
const (
	inboxDone    = "published"
	inboxRefused = "refused" // each with NAME.reason.txt
)

// readInbox publishes the artifacts of `patch build` that somebody has put into AGENT_DATA_DIR/inbox, by name, each when nobody has written to it
// for AGENT_WATCH_QUIET. This server is the first to apply them.
func (f *follower) readInbox(ctx context.Context) error {
	entries, err := os.ReadDir(f.dir.inbox())
	if errors.Is(err, fs.ErrNotExist) {
		return os.MkdirAll(f.dir.inbox(), 0o700)
	}
	if err != nil {
		return fmt.Errorf("read inbox: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if rest := f.cfg.WatchQuiet - time.Since(info.ModTime()); rest > 0 && rest <= f.cfg.WatchQuiet {
			f.lookAgain(rest)
			continue
		}
		if err := f.publishInbox(ctx, e.Name()); err != nil {
			return fmt.Errorf("%s in the inbox: %w", e.Name(), err)
		}
	}
	return nil
}

// publishInbox publishes one file, or puts it aside with the reason. An error means that it is to be tried again.
func (f *follower) publishInbox(ctx context.Context, name string) error {
	a, err := f.publish(ctx, filepath.Join(f.dir.inbox(), name), "")
	switch {
	case errors.Is(err, patch.ErrInvalid):
		f.log.Error().Err(err).Str("file", name).Msg("patch in the inbox refused")
		return f.putAside(name, inboxRefused, err.Error()+"\n")
	case err != nil:
		return err
	}
	f.log.Info().Str(logging.Patch, a.ID).Str("file", name).Msg("patch in the inbox published for all servers")
	return f.putAside(name, inboxDone, "")
}

// putAside moves a file that is dealt with out of the way.
func (f *follower) putAside(name, where, reason string) error {
	dir := filepath.Join(f.dir.inbox(), where)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if reason != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".reason.txt"), []byte(reason), 0o600); err != nil {
			return err
		}
	}
	return os.Rename(filepath.Join(f.dir.inbox(), name), filepath.Join(dir, name))
}
