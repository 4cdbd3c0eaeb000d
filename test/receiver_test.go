//go:build linux

package test

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// receiver takes steps of workers with WORKER_EXECUTOR=http, as a program of somebody else would: it has the effect of a
// step once, whatever the number of its deliveries, by remembering the Idempotency-Key. It outlives every process.
type receiver struct {
	*httptest.Server

	mu         sync.Mutex
	deliveries map[string]int // by Idempotency-Key
	answer     func(r *http.Request) int
}

func startReceiver(t testing.TB) *receiver {
	t.Helper()
	r := &receiver{deliveries: map[string]int{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

// env makes a worker post its steps here.
func (r *receiver) env() env { return env{"WORKER_EXECUTOR": "http", "WORKER_HTTP_URL": r.URL} }

// answering sets what is done with further steps: f returns a status, and only 200 has an effect. nil is always 200.
func (r *receiver) answering(f func(r *http.Request) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	answer := r.answer
	r.mu.Unlock()
	status := http.StatusOK
	if answer != nil {
		status = answer(req) // not under the lock: it may take its time
	}
	if status == http.StatusOK {
		r.mu.Lock()
		r.deliveries[req.Header.Get("Idempotency-Key")]++
		r.mu.Unlock()
	}
	w.WriteHeader(status)
}

// effects is the number of steps that had their effect.
func (r *receiver) effects() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.deliveries)
}

// repeated is the number of deliveries beyond the first of their step.
func (r *receiver) repeated() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, count := range r.deliveries {
		n += count - 1
	}
	return n
}
