package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
)

const filePace = 300 * time.Millisecond // between two tickets at one server

// steadyFeed files tickets at every server at the same pace all the time, and more slowly only while much is open.
type steadyFeed struct {
	filed, failed atomic.Int64 // confirmed; without an answer: filed or not
	end           context.CancelFunc
	over          sync.WaitGroup
}

func startSteadyFeed(ctx context.Context, in *installation, db *database) *steadyFeed {
	ctx, end := context.WithCancel(ctx)
	f := &steadyFeed{end: end}
	for _, s := range in.servers {
		f.over.Go(func() { f.fileAt(ctx, s, db) })
	}
	return f
}

// stop returns when the last request is answered.
func (f *steadyFeed) stop() {
	f.end()
	f.over.Wait()
}

func (f *steadyFeed) fileAt(ctx context.Context, s *server, db *database) {
	client := &http.Client{Timeout: feedAnswer}
	defer client.CloseIdleConnections()
	for pause(ctx, filePace) == nil {
		if c, err := omflowtest.CountProgress(ctx, db.DB); err != nil || c.Accepted-c.Effects > openTickets {
			continue
		}
		n, err := file(context.WithoutCancel(ctx), client, s, 1)
		f.filed.Add(int64(n))
		if err != nil {
			f.failed.Add(1)
		}
	}
}

// checkFiled says whether as many tickets are in the database as servers have confirmed; a request without an answer may have filed one.
func checkFiled(tickets, filed, failed int) error {
	if tickets < max(1, filed) || tickets > filed+failed {
		return fmt.Errorf("%d tickets are in the database; servers have confirmed %d and left %d requests unanswered", tickets, filed, failed)
	}
	return nil
}
