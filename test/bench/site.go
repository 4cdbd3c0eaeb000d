package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// site is what the measurements of one run share: a directory, one PostgreSQL server, our binary.
type site struct {
	dir      string
	root     string // of the repository
	binary   string
	postgres *postgres // nil if nobody needs it
	dirs     int
}

// openSite looks for what is missing before anything starts.
func openSite(ctx context.Context, needs []string, binary string) (_ *site, err error) {
	if slices.Contains(needs, needsRedis) {
		if _, err := redisProgram(); err != nil {
			return nil, err
		}
	}
	s := &site{binary: binary}
	if s.root, err = repository(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "omflow-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if slices.Contains(needs, needsPostgres) {
		if s.postgres, err = startPostgres(ctx, s.dir); err != nil {
			return nil, err
		}
	}
	if slices.Contains(needs, needsBooster) && s.binary == "" {
		s.binary = filepath.Join(s.dir, "omflow-booster")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", s.binary, ".") // as it is shipped
		build.Dir, build.Env = s.root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build omflow-booster in %s: %w\n%s", s.root, err, out)
		}
	}
	return s, nil
}

// repository is the root of the checkout that this program was started in.
func repository() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "test", "bench", "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	return "", errors.Join(errors.New("start the benchmark inside the repository"), err)
}

// fresh makes a directory that nobody has used.
func (s *site) fresh(name string) (string, error) {
	s.dirs++
	dir := filepath.Join(s.dir, fmt.Sprintf("%s-%d", name, s.dirs))
	return dir, os.Mkdir(dir, 0o755)
}

func (s *site) close() {
	if s.postgres != nil {
		s.postgres.end()
	}
	_ = os.RemoveAll(s.dir)
}
