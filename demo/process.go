package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/supervise"
)

const stopTimeout = 20 * time.Second // of one process with everything that it started

// process is one service of the product, as a real process with a log file. It is not started again when it ends by itself.
type process struct {
	name  string
	log   string // its file
	child *supervise.Child
	end   context.CancelFunc
	ended chan struct{}
	file  *os.File
}

// start runs this program again as a command of the product. Whatever happens to the demo, the process does not outlive it.
func start(name, logDir string, env []string, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find own program: %w", err)
	}
	path := filepath.Join(logDir, name+".log")
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("make log file: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{name: name, log: path, end: cancel, ended: make(chan struct{}), file: file}
	p.child = supervise.New(supervise.Spec{
		Name: name, Command: append([]string{self}, args...), Env: env, ReadyEvery: 50 * time.Millisecond,
		StopTimeout: stopTimeout, RestartMin: time.Hour, RestartMax: time.Hour,
	}, zerolog.New(file).With().Timestamp().Logger())
	go func() {
		defer close(p.ended)
		_ = p.child.Run(ctx) // that it cannot be ended stands in its log
	}()
	p.child.Start()
	return p, nil
}

// failure says how the process ended, or is nil while it runs.
func (p *process) failure() error {
	if s := p.child.Status(); s.State == supervise.Failing {
		return fmt.Errorf("%s ended by itself: %s", p.name, s.Error)
	}
	return nil
}

func (p *process) pid() int { return p.child.Status().PID }

// halt ends the process as an administrator does, and returns when it has ended. again starts it once more.
func (p *process) halt() error { return p.child.Stop(context.Background()) }

// kill ends the process, and it alone, without warning.
func (p *process) kill() error {
	if err := killProcess(p.pid()); err != nil {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	return p.halt() // it is not missed, and is started again when we say so
}

func (p *process) again() { p.child.Start() }

// killProcess is kill -9.
func killProcess(pid int) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return p.Kill()
}

// stop ends the process and everything that it started, and waits for that.
func (p *process) stop() {
	p.end()
	<-p.ended
	_ = p.file.Close()
}

// tail returns the last lines of the log.
func (p *process) tail(lines int) string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// environment is ours without what configures the product or the stand-in, plus settings (NAME=value).
func environment(settings ...string) []string {
	var env []string
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		ours := name == "DATABASE_URL"
		for _, prefix := range []string{"BOOSTER_", "SECOND_BOOSTER_", "HA_BOOSTER_", "WORKER_", "AGENT_", "OMFLOW", "LOG_"} {
			ours = ours || strings.HasPrefix(name, prefix)
		}
		if !ours {
			env = append(env, e)
		}
	}
	return append(env, settings...)
}
