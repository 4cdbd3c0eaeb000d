package omflowtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/sqldb"
	"github.com/omflow-booster/omflow-booster/internal/work"
)

// Runner executes the steps that a worker sends it: JSON lines on standard input and output, as worker/DESIGN.md says.
// It is written from that page alone, so it also shows that a runner can be.
type Runner struct {
	cfg   Config
	steps *steps

	out      *json.Encoder
	deadline atomic.Int64 // of the running step, Unix milliseconds; the reader moves it while the step runs
	puts     int64
}

// NewRunner returns a runner on an open database. exit is os.Exit, for the crashes that cfg asks for.
func NewRunner(cfg Config, db *sqldb.DB, exit func(code int)) *Runner {
	return &Runner{cfg: cfg, steps: &steps{db: db, script: Recorded(), server: cfg.Server, faults: cfg.Faults, exit: exit}}
}

// order is what a worker says. Which fields count depends on Op.
type order struct {
	Op       string    `json:"op"` // run, renew, stored, refused
	ID       string    `json:"id"`
	Attempt  int       `json:"attempt"`
	Deadline int64     `json:"deadline"`
	Item     work.Item `json:"item"`
	Follow   bool      `json:"follow"`
	N        int64     `json:"n"`
	Error    string    `json:"error"`
}

// The answers. Each is one line.
type (
	readyAnswer struct {
		Op       string `json:"op"`
		Protocol int    `json:"protocol"`
		Name     string `json:"name"`
	}
	putAnswer struct {
		Op    string      `json:"op"`
		ID    string      `json:"id"`
		N     int64       `json:"n"`
		Items []work.Item `json:"items"`
	}
	doneAnswer struct {
		Op    string      `json:"op"`
		ID    string      `json:"id"`
		Items []work.Item `json:"items,omitempty"`
	}
	failedAnswer struct {
		Op    string `json:"op"`
		ID    string `json:"id"`
		Error string `json:"error"`
	}
)

// Run serves until in ends, which is how a worker asks a runner to stop, and returns nil then. A step that is under way is
// rolled back. When ctx ends first, one goroutine lives on until in ends too.
func (r *Runner) Run(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r.out = json.NewEncoder(out)
	r.out.SetEscapeHTML(false)
	runs, answers := make(chan order), make(chan order)
	go func() { stop(r.read(ctx, in, runs, answers)) }()
	if err := r.out.Encode(readyAnswer{"ready", 1, "omflow-standin"}); err != nil {
		return fmt.Errorf("say ready: %w", err)
	}
	for {
		select {
		case <-ctx.Done():
			if err := context.Cause(ctx); !errors.Is(err, io.EOF) && !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		case run := <-runs:
			if err := r.run(ctx, run, answers); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// read hands on what the worker says, and returns io.EOF at the end.
func (r *Runner) read(ctx context.Context, in io.Reader, runs, answers chan<- order) error {
	lines := bufio.NewReaderSize(in, 64<<10)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return err // a line without its end is no message
		}
		var o order
		if err := json.Unmarshal(line, &o); err != nil {
			return fmt.Errorf("message of the worker: %w", err)
		}
		to := answers
		switch o.Op {
		case "renew":
			r.deadline.Store(o.Deadline)
			continue
		case "run":
			r.deadline.Store(o.Deadline)
			to = runs
		case "stored", "refused":
		default:
			continue // of a later protocol
		}
		select {
		case to <- o:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// run executes one step and answers. It fails only when the worker cannot be spoken to.
func (r *Runner) run(ctx context.Context, o order, answers <-chan order) error {
	if !r.work(ctx, o) {
		return nil // stopped
	}
	next, err := r.steps.execute(ctx, attempt{item: o.Item, n: o.Attempt, lease: r.lease})
	if err != nil {
		return r.out.Encode(failedAnswer{"failed", o.ID, err.Error()}) // also when stopped: the worker knows that by itself
	}
	if next != nil && o.Follow && !r.cfg.PutAll {
		return r.out.Encode(doneAnswer{"done", o.ID, []work.Item{*next}})
	}
	if next != nil {
		r.puts++
		if err := r.out.Encode(putAnswer{"put", o.ID, r.puts, []work.Item{*next}}); err != nil {
			return err
		}
		select {
		case <-answers: // stored or refused: its row is committed, so the reconciler finds it if the worker could not take it
		case <-ctx.Done():
			return nil
		}
	}
	return r.out.Encode(doneAnswer{Op: "done", ID: o.ID})
}

// work takes as long as a step takes. Before the transaction, as in OMFLOW: a step thinks first and writes then.
func (r *Runner) work(ctx context.Context, o order) bool {
	took := r.cfg.StepMin + time.Duration(r.cfg.draw("time", o.Item.Row, o.Attempt)*float64(r.cfg.StepMax-r.cfg.StepMin))
	if r.cfg.IsSlow(o.Item.Row, o.Attempt) {
		took += r.cfg.SlowFor
	}
	return sleep(ctx, took)
}

// lease fails once the step may belong to another worker. By the wall clock: a machine that was suspended must see it too.
func (r *Runner) lease() error {
	if time.Now().UnixMilli() >= r.deadline.Load() {
		return errLeasePassed
	}
	return nil
}

// sleep waits and tells whether ctx is still there.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
