package worker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/config"
	"github.com/omflow-booster/omflow-booster/internal/work"
)

// Limits of one request to the local API.
const (
	maxSubmitBytes = 64 << 20
	maxSubmits     = 256 // at the same time; more get 503
	retryAfter     = "1" // seconds
)

// api is the local HTTP/JSON interface for the OMFLOW Server beside the worker, on a Unix socket.
//
//	POST /v1/items   one item, an array of items, or items as JSON lines
//	GET  /v1/status  the worker's own heartbeat
//	GET  /healthz    200 while the worker runs; the body says whether a Booster is connected
type api struct {
	socket    string
	take      func(ctx context.Context, body io.Reader) (submitReply, int, error)
	status    func() any
	connected func() bool // to a Booster
	accepts   func() bool // connected, and the Booster is known to carry the steps of our database
	submits   chan struct{}
	listener  net.Listener
}

// listen takes the socket. It fails with a *config.Error when the directory cannot be written, or another worker answers there.
func (a *api) listen(ctx context.Context) error {
	a.submits = make(chan struct{}, maxSubmits)
	if err := os.MkdirAll(filepath.Dir(a.socket), 0o755); err != nil { //nolint:gosec // the OMFLOW Server runs as another user
		return &config.Error{
			Var: "WORKER_SOCKET", Problem: "cannot make its directory: " + err.Error(),
			Fix: "make the directory writable or choose another path",
		}
	}
	if conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", a.socket); err == nil {
		_ = conn.Close()
		return &config.Error{Var: "WORKER_SOCKET", Problem: a.socket + " is in use by another worker", Fix: "stop it or choose another path"}
	}
	if info, err := os.Lstat(a.socket); err == nil {
		if info.Mode()&os.ModeSocket == 0 {
			return &config.Error{Var: "WORKER_SOCKET", Problem: a.socket + " exists and is no socket", Fix: "choose another path"}
		}
		_ = os.Remove(a.socket) // left by a worker that was killed
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", a.socket)
	if err != nil {
		return &config.Error{Var: "WORKER_SOCKET", Problem: err.Error(), Fix: "choose a path in a writable directory, 100 characters at most"}
	}
	if err := os.Chmod(a.socket, 0o660); err != nil { //nolint:gosec // owner and group: the OMFLOW Server shares the group
		_ = l.Close()
		return fmt.Errorf("set permissions of %s: %w", a.socket, err)
	}
	a.listener = l
	return nil
}

// serve answers requests until ctx ends; requests under way are finished.
func (a *api) serve(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/items", a.postItems)
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, a.status()) })
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]bool{"booster_connected": a.connected(), "accepts_work": a.accepts()})
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.Background(), publishTimeout+time.Second)
		defer cancel()
		_ = srv.Shutdown(last)
	}()
	err := srv.Serve(a.listener)
	if errors.Is(err, http.ErrServerClosed) {
		<-stopped
		return nil
	}
	return fmt.Errorf("local API on %s: %w", a.socket, err)
}

// submitReply is the answer to POST /v1/items and to the bus service's submit.
type submitReply struct {
	Items []submittedItem `json:"items"`
}

type submittedItem struct {
	ID     string `json:"id"`              // q<row> or o<row>
	Queued bool   `json:"queued"`          // false: its row is safe and the reconciler will publish it
	Error  string `json:"error,omitempty"` // why it can never be queued as it was sent; its row in omflow_queuedata is as it was
}

type apiError struct {
	Error string `json:"error"`
}

// postItems answers item by item. The status is 200 when every item is queued, 202 when every item is durable but some are not
// queued, 400 or 413 when an item without a row can never be taken (then none was), 503 with Retry-After when the same request
// may be made again later, and 500 when it is not known whether the work was stored: without a submit_id, sending it again may
// double it.
func (a *api) postItems(w http.ResponseWriter, r *http.Request) {
	select {
	case a.submits <- struct{}{}:
		defer func() { <-a.submits }()
	default:
		unavailable(w, errors.New("too many submits at once"))
		return
	}
	reply, status, err := a.take(r.Context(), http.MaxBytesReader(w, r.Body, maxSubmitBytes))
	switch {
	case errors.Is(err, ErrUnavailable):
		unavailable(w, err)
	case err != nil:
		answer(w, statusOf(err), apiError{err.Error()})
	default:
		if status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", retryAfter)
		}
		answer(w, status, reply)
	}
}

// take submits what a request holds. One wrong item never keeps the others from being taken if it has a row: that is safe, and what is
// wrong with it is said. An item without a row would be lost if its sender did not look, so it refuses the request as a whole.
func (p *publisher) take(ctx context.Context, body io.Reader) (submitReply, int, error) {
	raw, err := readItems(body)
	if err != nil {
		return submitReply{}, 0, err
	}
	items, list := make([]work.Item, 0, len(raw)), make([]Accepted, len(raw))
	for i, data := range raw {
		it, err := work.Parse(data)
		row := work.RowOf(data)
		switch {
		case err == nil:
			items = append(items, it)
		case row == 0:
			return submitReply{}, 0, fmt.Errorf("item %d: %w", i+1, err)
		default:
			list[i] = Accepted{ID: work.ID{Source: work.Queue, Row: row}, Err: err}
		}
	}
	if len(items) > 0 {
		taken, err := p.Submit(ctx, items)
		if err != nil {
			return submitReply{}, 0, err
		}
		for i := range list {
			if list[i].Err == nil {
				list[i], taken = taken[0], taken[1:]
			}
		}
	}
	reply, status := describe(list)
	return reply, status, nil
}

// describe turns accepted items into the reply and its HTTP status.
func describe(list []Accepted) (submitReply, int) {
	reply := submitReply{Items: make([]submittedItem, len(list))}
	var refused, again, later bool
	for i, acc := range list {
		reply.Items[i] = submittedItem{ID: acc.ID.String(), Queued: acc.Queued}
		switch {
		case acc.Err != nil:
			reply.Items[i].Error, refused = acc.Err.Error(), true
		case acc.Queued:
		case acc.ID.Source == work.Outbox:
			later = true
		default:
			again = true
		}
	}
	switch {
	case later: // sending it again would double it
		return reply, http.StatusAccepted
	case again: // the sender's own rows: sending them again is harmless
		return reply, http.StatusServiceUnavailable
	case refused:
		return reply, http.StatusAccepted
	}
	return reply, http.StatusOK
}

func statusOf(err error) int {
	var tooLarge *http.MaxBytesError
	switch {
	case errors.Is(err, work.ErrOversized), errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, work.ErrMalformed):
		return http.StatusBadRequest
	case errors.Is(err, ErrUnavailable):
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

func unavailable(w http.ResponseWriter, err error) {
	w.Header().Set("Retry-After", retryAfter)
	answer(w, http.StatusServiceUnavailable, apiError{err.Error()})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client is gone: nobody to tell
}

// readItems reads one item, an array of items, or items as JSON lines.
func readItems(r io.Reader) ([]json.RawMessage, error) {
	br := bufio.NewReader(r)
	dec := json.NewDecoder(br)
	var raw []json.RawMessage
	if first, err := firstByte(br); err != nil {
		return nil, err
	} else if first == '[' {
		if err := dec.Decode(&raw); err != nil {
			return nil, malformed(err)
		}
	} else {
		for {
			var one json.RawMessage
			err := dec.Decode(&one)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, malformed(err)
			}
			raw = append(raw, one)
		}
	}
	return raw, nil
}

func malformed(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return fmt.Errorf("%w: the request is larger than %d bytes", err, maxSubmitBytes)
	}
	return fmt.Errorf("%w: %w", work.ErrMalformed, err)
}

// firstByte skips white space and peeks at what comes then.
func firstByte(br *bufio.Reader) (byte, error) {
	for {
		b, err := br.ReadByte()
		if errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("%w: the request is empty", work.ErrMalformed)
		}
		if err != nil {
			return 0, err
		}
		if !bytes.ContainsRune([]byte(" \t\r\n"), rune(b)) {
			return b, br.UnreadByte()
		}
	}
}
