//go:build linux

package test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
)

const (
	filePace = 80 * time.Millisecond  // between two tickets at one server
	slowPace = 400 * time.Millisecond // the same while much is waiting
	much     = 40                     // rows in omflow_queuedata
)

// client asks the web processes of all servers.
var client = &http.Client{Timeout: startTimeout, Transport: &http.Transport{DisableKeepAlives: true}}

// load is people who file tickets at every server, at a steady pace and more slowly while much is waiting, but on and on,
// whatever happens behind the servers.
type load struct {
	end  context.CancelFunc
	over sync.WaitGroup

	filed  atomic.Int64 // tickets that a server has confirmed
	failed atomic.Int64 // requests without an answer: their ticket may be filed or not
	cause  atomic.Value // of the last failure
}

// fileTickets starts the load. It goes on until finish.
func (s *site) fileTickets() {
	ctx, cancel := context.WithCancel(context.Background())
	s.load = &load{end: cancel}
	s.t.Cleanup(s.load.stop)
	for _, srv := range s.servers {
		s.load.over.Go(func() { s.fileAt(ctx, srv) })
	}
}

func (l *load) stop() {
	l.end()
	l.over.Wait()
}

func (s *site) fileAt(ctx context.Context, srv *server) {
	tick := time.NewTicker(filePace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		filed, err := file(context.WithoutCancel(ctx), srv.url, 1) // a request under way is waited for
		s.load.filed.Add(int64(filed))
		if err != nil {
			s.load.failed.Add(1)
			s.load.cause.Store(err.Error())
		}
		pace := filePace
		if waiting, err := s.count(ctx, `SELECT count(*) FROM omflow_queuedata`); err != nil || waiting > much {
			pace = slowPace
		}
		tick.Reset(pace)
	}
}

// file asks a server to file tickets and returns how many it has confirmed.
func file(ctx context.Context, url string, tickets int) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("%s/file?n=%d", url, tickets), nil)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s answers %s", url, resp.Status)
	}
	var f omflowtest.Filed
	err = json.NewDecoder(resp.Body).Decode(&f)
	return int(f.Filed), err
}
