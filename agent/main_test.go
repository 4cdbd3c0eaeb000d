package agent

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/leaktest"
	"github.com/omflow-booster/omflow-booster/internal/patch"
)

// TestMain lets the test binary play the OMFLOW Server, the worker and an agent that can be killed:
//
//	server DIR ADDRESS   answers at ADDRESS; ends at once if the home has a file "broken"; notices a home between two versions, in
//	                     which omflow/first.py and omflow/second.py differ; is not healthy while the home has a file "sick", and
//	                     ends a moment after its first answer if it has a file "falls-over"
//	                     A file "counter" of the home it writes at its start.
//	worker DIR           ends on request, but not while the home has a file "long-step"
//	python DIR ARGS…     is pip or migrate: says so, waits while the home has a file "<hook>-hangs", fails if it has a file "<hook>-fails"
//	agent                configured by its environment, as the product; kills itself at the n-th operation TEST_KILL_AT=<op>:<n>
//
// Server, worker and hooks write what happens to them into DIR/events.
func TestMain(m *testing.M) {
	switch role := append(os.Args, "")[1]; role {
	case "server":
		playServer(os.Args[2], os.Args[3])
	case "worker":
		playWorker(os.Args[2])
	case "python":
		playPython(os.Args[2], os.Args[3:])
	case "witness":
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		<-ctx.Done()
		stop()
	case "agent":
		if err := playAgent(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		_ = os.Setenv("GORACE", "atexit_sleep_ms=0") // for the children: the race detector would delay their end by a second
		leaktest.Main(m)
	}
}

func playServer(dir, address string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	first, _ := os.ReadFile("omflow/first.py")
	if second, _ := os.ReadFile("omflow/second.py"); !bytes.Equal(first, second) {
		happened(dir, "half-patched", "")
	}
	if _, err := os.Stat("broken"); err == nil {
		fmt.Println("cannot start")
		os.Exit(3)
	}
	app, _ := os.ReadFile("omflow/app.py")
	happened(dir, "server-start", string(app))
	if _, err := os.Stat("counter"); err == nil {
		_ = os.WriteFile("counter", fmt.Appendln(nil, os.Getpid()), 0o600)
	}
	time.Sleep(50 * time.Millisecond) // a real one is not there at once either
	listener, err := net.Listen("tcp", address)
	if err != nil {
		panic(err)
	}
	happened(dir, "server-healthy", "")
	go func() {
		_ = http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if _, err := os.Stat("sick"); err == nil {
				w.WriteHeader(http.StatusInternalServerError)
			}
			if _, err := os.Stat("falls-over"); err == nil {
				time.AfterFunc(100*time.Millisecond, func() { os.Exit(3) })
			}
		}))
	}()
	<-ctx.Done()
	happened(dir, "server-stop", "")
}

func playWorker(dir string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	happened(dir, "worker-start", os.Getenv("WORKER_NAME")+"/"+os.Getenv("OMFLOW_AGENT"))
	<-ctx.Done()
	happened(dir, "worker-drains", "")
	for err := error(nil); err == nil; _, err = os.Stat("long-step") {
		time.Sleep(50 * time.Millisecond) // its steps
	}
	happened(dir, "worker-stop", "")
}

func playPython(dir string, args []string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	hook := "migrate"
	if args[0] == "-m" {
		hook = args[1]
	}
	fmt.Println(hook, "is at it")
	happened(dir, hook+"-start", strings.Join(args, " "))
	for err := error(nil); err == nil && ctx.Err() == nil; _, err = os.Stat(hook + "-hangs") {
		time.Sleep(20 * time.Millisecond)
	}
	if ctx.Err() != nil {
		happened(dir, hook+"-cut", "")
		os.Exit(1)
	}
	if _, err := os.Stat(hook + "-fails"); err == nil {
		fmt.Println("no such table")
		os.Exit(3)
	}
	happened(dir, hook+"-end", "")
}

func playAgent() error {
	var cfg Config
	if err := config.Load(&cfg); err != nil {
		return err
	}
	client, err := bus.Connect(cfg.ClientConfig, "agent", zerolog.Nop())
	if err != nil {
		return err
	}
	a, err := New(cfg, Deps{Client: client, WorkerCommand: strings.Fields(os.Getenv("TEST_WORKER"))}, zerolog.New(os.Stderr))
	if err != nil {
		return err
	}
	if op, n, ok := strings.Cut(os.Getenv("TEST_KILL_AT"), ":"); ok {
		a.beforeDisk = atNth(op, n, func() error {
			self, err := os.FindProcess(os.Getpid())
			if err != nil {
				return err
			}
			return self.Kill()
		})
	}
	return a.Run(context.Background())
}

// atNth lets something happen at the n-th time that an operation is done.
func atNth(op, n string, then func() error) patch.Before {
	left, err := strconv.Atoi(n)
	if err != nil {
		panic(err)
	}
	return func(o, _ string) error {
		if o == op {
			left--
			if left == 0 {
				return then()
			}
		}
		return nil
	}
}

// happened adds a line "<nanoseconds> <pid> <what> <detail>".
func happened(dir, what, detail string) {
	f, err := os.OpenFile(filepath.Join(dir, "events"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(f, "%d %d %s %s\n", time.Now().UnixNano(), os.Getpid(), what, detail)
	_ = f.Close()
}
