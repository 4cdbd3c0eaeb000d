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

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/logging"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// What is in the inbox besides the files that somebody has put there.
const (
	inboxDone    = "published"
	inboxRefused = "refused" // each with NAME.reason.txt
)

// inbox publishes what somebody has put into AGENT_DATA_DIR/inbox.
type inbox struct {
	path      string
	quiet     time.Duration // AGENT_WATCH_QUIET
	publisher artifactPublisher
	log       zerolog.Logger
}

// artifactPublisher stores and announces an artifact.
type artifactPublisher interface {
	publish(ctx context.Context, artifact, once string) (patch.Announcement, error)
}

func newInbox(i inbox) (*inbox, error) { return complete(&i) }

// run publishes the artifacts of `patch build` in the inbox, by name, each when nobody has written to it for AGENT_WATCH_QUIET. This
// server is the first to apply them. again says when to look at one that was written to.
func (i *inbox) run(ctx context.Context) (again time.Duration, err error) {
	entries, err := os.ReadDir(i.path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, os.MkdirAll(i.path, 0o700)
	}
	if err != nil {
		return 0, fmt.Errorf("read inbox: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if rest := i.quiet - time.Since(info.ModTime()); rest > 0 && rest <= i.quiet {
			again = sooner(again, rest)
			continue
		}
		if err := i.publish(ctx, e.Name()); err != nil {
			return again, fmt.Errorf("%s in the inbox: %w", e.Name(), err)
		}
	}
	return again, nil
}

// publish publishes one file, or puts it aside with the reason. An error means that it is to be tried again.
func (i *inbox) publish(ctx context.Context, name string) error {
	a, err := i.publisher.publish(ctx, filepath.Join(i.path, name), "")
	switch {
	case errors.Is(err, patch.ErrInvalid):
		i.log.Error().Err(err).Str("file", name).Msg("patch in the inbox refused")
		return i.putAside(name, inboxRefused, err.Error()+"\n")
	case err != nil:
		return err
	}
	i.log.Info().Str(logging.Patch, a.ID).Str("file", name).Msg("patch in the inbox published for all servers")
	return i.putAside(name, inboxDone, "")
}

// putAside moves a file that is dealt with out of the way.
func (i *inbox) putAside(name, where, reason string) error {
	dir := filepath.Join(i.path, where)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if reason != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".reason.txt"), []byte(reason), 0o600); err != nil {
			return err
		}
	}
	return os.Rename(filepath.Join(i.path, name), filepath.Join(dir, name))
}
