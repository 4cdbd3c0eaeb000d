package contract

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/sqldb"
	"github.com/omflow-booster/omflow-booster/internal/work"
)

// worker speaks to one runner as a worker does.
type worker struct {
	in    io.WriteCloser
	lines *bufio.Scanner
}

// said is one line of a runner.
type said struct {
	Op       string      `json:"op"`
	Protocol int         `json:"protocol"`
	ID       string      `json:"id"`
	N        int64       `json:"n"`
	Items    []work.Item `json:"items"`
	Error    string      `json:"error"`
}

// newWorker takes the two ends of a runner and waits until that is ready.
func newWorker(t *testing.T, in io.WriteCloser, out io.Reader) *worker {
	w := &worker{in: in, lines: bufio.NewScanner(out)}
	ready, ok := w.hear(t)
	require.True(t, ok, "the runner ended before it was ready")
	require.Equal(t, said{Op: "ready", Protocol: 1}, ready)
	return w
}

// inProcess starts a runner in this process and ends it with the test.
func inProcess(t *testing.T, db *sqldb.DB, name string) *worker {
	inRead, inWrite := io.Pipe()
	outRead, outWrite := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		r := omflowtest.NewRunner(omflowtest.Config{Server: name}, db, func(int) {})
		ended <- r.Run(context.WithoutCancel(t.Context()), inRead, outWrite)
	}()
	t.Cleanup(func() {
		_ = inWrite.Close()
		require.NoError(t, <-ended)
	})
	return newWorker(t, inWrite, outRead)
}

// run has a step executed and returns what was put, and how it ended: done, failed, or "" when the runner died.
func (w *worker) run(t *testing.T, it work.Item, attempt int, lease time.Duration) (puts []work.Item, end said) {
	return w.runOf(t, it, map[string]any{"attempt": attempt, "deadline": time.Now().Add(lease).UnixMilli()})
}

// runOf is run with these fields of the message.
func (w *worker) runOf(t *testing.T, it work.Item, fields map[string]any) (puts []work.Item, end said) {
	id := work.ID{Source: work.Queue, Row: it.Row}.String()
	message := map[string]any{"op": "run", "id": id, "key": "", "item": it}
	maps.Copy(message, fields)
	w.say(t, message)
	for {
		m, ok := w.hear(t)
		if !ok {
			return puts, said{}
		}
		require.Equal(t, id, m.ID)
		if m.Op != "put" {
			return puts, m
		}
		puts = append(puts, m.Items...)
		w.say(t, map[string]any{"op": "stored", "id": id, "n": m.N, "ids": []string{}})
	}
}

func (w *worker) say(t *testing.T, m any) {
	line, err := json.Marshal(m)
	require.NoError(t, err)
	_, err = w.in.Write(append(line, '\n'))
	require.NoError(t, err)
}

func (w *worker) hear(t *testing.T) (m said, ok bool) {
	if !w.lines.Scan() {
		return said{}, false
	}
	require.NoError(t, json.Unmarshal(w.lines.Bytes(), &m), w.lines.Text())
	if m.Op == "ready" {
		return said{Op: m.Op, Protocol: m.Protocol}, true
	}
	return m, true
}
