package omflowtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/sqldb"
)

// Server is the web process of the stand-in.
//
//	GET  /health/   200 with the version that it was started with
//	POST /file?n=5  files tickets; the answer is a Filed
//	GET  /stats     the same since the start
type Server struct {
	cfg   Config
	steps *steps
	hand  *handover
	log   zerolog.Logger
	ready chan string // gets the address

	filed, queued, left atomic.Int64
}

// Filed is what became of tickets. Filed = Queued + Left, but for a server that died in between.
type Filed struct {
	Filed  int64 `json:"filed"`
	Queued int64 `json:"queued"` // their first step is in the queue of the Booster
	Left   int64 `json:"left"`   // their first step is in SQL alone: the worker did not take it in time
}

// NewServer returns a server on an open database. exit is os.Exit, for the crashes that cfg asks for.
func NewServer(cfg Config, db *sqldb.DB, log zerolog.Logger, exit func(code int)) *Server {
	return &Server{
		cfg: cfg, log: log, ready: make(chan string, 1), hand: newHandover(cfg.Socket, cfg.PutTimeout),
		steps: &steps{db: db, script: Recorded(), server: cfg.Server, faults: cfg.Faults, exit: exit},
	}
}

// Ready gets the address once, when the server listens.
func (s *Server) Ready() <-chan string { return s.ready }

// Run serves until ctx ends; requests under way are finished.
func (s *Server) Run(ctx context.Context) error {
	version := Version(s.cfg.Home)
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("OMFLOWTEST_LISTEN: %w", err)
	}
	defer s.hand.close()
	mux := http.NewServeMux()
	status := http.StatusOK
	if unhealthy(s.cfg.Home, s.cfg.Server) {
		status = http.StatusInternalServerError
	}
	mux.HandleFunc("GET /health/", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, status, map[string]string{"server": s.cfg.Server, "version": version})
	})
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, Filed{s.filed.Load(), s.queued.Load(), s.left.Load()})
	})
	mux.HandleFunc("POST /file", s.file)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = srv.Shutdown(last)
	}()
	s.log.Info().Str("address", l.Addr().String()).Str("version", version).Msg("stand-in OMFLOW Server listens")
	s.ready <- l.Addr().String()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	<-stopped
	return nil
}

// file files n tickets, one after the other.
func (s *Server) file(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.URL.Query().Get("n"))
	if err != nil || n < 1 {
		answer(w, http.StatusBadRequest, map[string]string{"error": "n must be a number from 1"})
		return
	}
	var f Filed
	for range n {
		queued, err := s.fileOne(r.Context())
		if err != nil {
			s.log.Error().Err(err).Msg("ticket not filed")
			answer(w, http.StatusInternalServerError, map[string]string{"error": err.Error()})
			return
		}
		f.Filed++
		if queued {
			f.Queued++
		} else {
			f.Left++
		}
	}
	answer(w, http.StatusOK, f)
}

// fileOne commits one ticket with the row of its first step, and hands the step to the worker.
func (s *Server) fileOne(ctx context.Context) (queued bool, err error) {
	it, err := s.steps.file(ctx)
	if err != nil {
		return false, err
	}
	s.filed.Add(1)
	if s.cfg.CrashesBeforePut(it.Row) {
		s.steps.exit(CrashExit)
	}
	if err := s.hand.put(ctx, it); err != nil {
		s.left.Add(1)
		s.log.Warn().Err(err).Int64("row", it.Row).Msg("step not handed over; its row is left to the reconciler")
		return false, nil
	}
	s.queued.Add(1)
	return true, nil
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client is gone: nobody to tell
}

var versionLine = regexp.MustCompile(`(?m)^version=(.*)$`)

// UnhealthyFile names, in a home, the servers that are not healthy with it, one a line.
const UnhealthyFile = "omflow/unhealthy"

func unhealthy(home, server string) bool {
	data, err := os.ReadFile(filepath.Join(home, filepath.FromSlash(UnhealthyFile)))
	return err == nil && slices.Contains(strings.Fields(string(data)), server)
}

// VersionFile is where an OMFLOW Server keeps its version, below its home.
const VersionFile = "omflow/syscom/version.bin"

// Version reads the version of the OMFLOW Server in a directory, or returns "unknown".
func Version(home string) string {
	data, err := os.ReadFile(filepath.Join(home, filepath.FromSlash(VersionFile)))
	if err != nil {
		return "unknown"
	}
	if m := versionLine.FindSubmatch(data); m != nil {
		return string(m[1])
	}
	return "unknown"
}
