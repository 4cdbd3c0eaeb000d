package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestServerWritesIntoItsLogFileToo(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	n.write("broken", "")
	n.cfg.HealthTimeout = poll
	for _, dir := range []string{"", filepath.Join(t.TempDir(), "deep", "logs")} {
		n.cfg.LogDir = dir
		n.start()
		if dir == "" {
			dir = filepath.Join(n.cfg.DataDir, "logs")
		}
		n.eventually(func() bool {
			data, _ := os.ReadFile(filepath.Join(dir, "server.log"))
			return strings.Contains(string(data), "cannot start\n")
		}, "its output is in the file")
		n.stop()
	}
	n.cfg.LogDir, n.cfg.DataDir = "off", t.TempDir()
	n.start()
	n.stop()
	require.NoDirExists(t, filepath.Join(n.cfg.DataDir, "logs"))
}

// A log that cannot be written keeps nobody from anything.
func TestServerRunsWithoutItsLogFile(t *testing.T) {
	t.Parallel()
	n := newNode(t, newBus(t), "srv1")
	log := &syncBuffer{}
	n.log = log
	n.cfg.LogDir = filepath.Join(t.TempDir(), "file") // no directory
	require.NoError(t, os.WriteFile(n.cfg.LogDir, nil, 0o600))
	n.cfg.Command = `sh -c 'while true; do echo line; sleep 0.01; done'`
	n.cfg.HealthURL = ""
	n.start()
	n.eventually(func() bool { return strings.Count(log.String(), `"message":"line"`) > 5 }, "it runs and is heard")
	require.Equal(t, 1, strings.Count(log.String(), "log file cannot be written"))
	n.stop()
}

type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf.Reset()
}

func (b *syncBuffer) contains(text string) bool { return strings.Contains(b.String(), text) }

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
