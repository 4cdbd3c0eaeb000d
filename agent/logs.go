package agent

import (
	"io"
	"path/filepath"

	"github.com/omflow-booster/omflow-booster/agent/logfile"
	"github.com/omflow-booster/omflow-booster/internal/config"
)

const (
	logsDir    = "logs" // in the data directory, unless AGENT_LOG_DIR says otherwise
	logsOff    = "off"  // AGENT_LOG_DIR of who wants none
	minLogSize = 64 << 10
)

func (c *Config) validateLogs() (err error) {
	if c.logSize, err = config.Size("AGENT_LOG_SIZE", c.LogSize, minLogSize); err != nil {
		return err
	}
	return config.Between("AGENT_LOG_KEEP", c.LogKeep, 0, 1000)
}

// logFile is where the output of a child goes beside our own log; nil if nobody wants that.
func (h *host) logFile(child string) io.Writer {
	dir := h.cfg.LogDir
	switch dir {
	case logsOff:
		return nil
	case "":
		dir = filepath.Join(h.cfg.DataDir, logsDir)
	}
	f := logfile.New(filepath.Join(dir, child+".log"), logfile.Options{Size: h.cfg.logSize, Keep: h.cfg.LogKeep}, h.log)
	h.files = append(h.files, f)
	return f
}

func (h *host) closeLogFiles() {
	for _, f := range h.files {
		f.Close()
	}
}
