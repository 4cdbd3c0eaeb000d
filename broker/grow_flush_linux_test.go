package broker

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/omflow-booster/omflow-booster/broker/audit"
)

// unwritten are the files with messages below a directory of which the kernel has pages that are not on the disk. A file that was written
// to after the time given does not count: the cluster goes on writing, to its locks for example.
func unwritten(t *testing.T, dir string, until time.Time) (files []string) {
	t.Helper()
	_ = filepath.WalkDir(filepath.Join(dir, storeName, "$G"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".blk") && dirty(t, path) {
			if info, err := d.Info(); err == nil && info.ModTime().Before(until) {
				files = append(files, path)
			}
		}
		return nil // a running server removes files
	})
	return files
}

func dirty(t *testing.T, path string) bool {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	var c unix.Cachestat_t
	if err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{}, &c, 0); err != nil {
		t.Skipf("SKIPPED: this kernel does not tell what is on the disk (Linux 6.5 does): %v", err)
	}
	return c.Dirty+c.Writeback > 0
}

// The old store goes last, and only when a power cut cannot take the new copies any more.
func TestOldStoreStaysUntilTheNewOneIsOnTheDisk(t *testing.T) {
	t.Parallel()
	probe := filepath.Join(t.TempDir(), "probe")
	f, err := os.Create(probe)
	require.NoError(t, err)
	_, err = f.WriteString("x")
	require.NoError(t, err)
	require.NoError(t, errors.Join(f.Sync(), f.Close()))
	if dirty(t, probe) {
		t.Skip("SKIPPED: the temporary directory is in memory, where nothing is ever on a disk")
	}

	cfgA, cfgB := pair(t)
	aged(t, cfgA)
	_, runB := startBooster(t, cfgB, "b")
	a := made(t, cfgA, zerolog.New(zerolog.NewTestWriter(t)))
	restored, flushed := -1, []string{"not looked at"}
	var until time.Time          // the restore had ended
	var asked *nats.Subscription // who is asked to flush
	checked := make(chan struct{})
	a.interrupt = func(point string) error {
		left := func() []string {
			return append(unwritten(t, cfgA.DataDir, until), unwritten(t, cfgB.DataDir, until)...)
		}
		switch point {
		case "streams restored":
			until = time.Now()
			restored = len(left())
			asked, err = a.now.Load().node.sys.SubscribeSync("audit." + audit.AskFlush + ".*")
			require.NoError(t, err)
		case "new store flushed":
			flushed = left()
			_, err := os.Stat(a.store.path(storeAside))
			require.NoError(t, err, "the old store is still there")
			for range 2 {
				_, err := asked.NextMsg(timeout)
				require.NoError(t, err, "each Booster is asked")
			}
			close(checked)
		}
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	run := run(t, a.Ready(), func(context.Context) error { return a.Run(ctx) })
	t.Cleanup(cancel)
	run.wait(t)
	runB.wait(t)
	<-checked
	t.Logf("files that a power cut would take after the restore: %d; a busy system may have written them already", restored)
	require.Empty(t, flushed, "files that a power cut would take, when the old store goes")
	cancel()
}
