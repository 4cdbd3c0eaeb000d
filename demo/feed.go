package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
)

const (
	batch       = 5   // tickets in one request
	openTickets = 200 // filed and not closed at the same time
	feedPause   = 20 * time.Millisecond
	feedAnswer  = 30 * time.Second // a server that waits 2 s for its worker at each ticket of a batch still answers
)

// feed files tickets at all servers in turn, like people whose work comes in as the earlier gets done. A server that is down,
// because it is being patched, is passed over. How many are filed already is asked of the database whenever an answer is
// missing, so that the number comes out right whatever happened to the server that owed it.
func feed(ctx context.Context, in *installation, db *database, tickets int) error {
	client := &http.Client{Timeout: feedAnswer}
	defer client.CloseIdleConnections()
	filed, next := 0, 0
	for filed < tickets {
		c, err := omflowtest.CountProgress(ctx, db.DB)
		if err != nil {
			return err
		}
		if open := c.Accepted - c.Effects; open >= openTickets {
			if err := pause(ctx, feedPause); err != nil {
				return err
			}
			continue
		}
		s := in.servers[next%len(in.servers)]
		next++
		n, err := file(ctx, client, s, min(batch, tickets-filed))
		filed += n
		if err == nil {
			continue
		}
		if err := pause(ctx, feedPause); err != nil {
			return err
		}
		all, err := omflowtest.Count(ctx, db.DB)
		if err != nil {
			return err
		}
		filed = all.Tickets
	}
	return nil
}

// file asks one server to file n tickets.
func file(ctx context.Context, client *http.Client, s *server, n int) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("%s/file?n=%d", s.web, n), nil)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s answers %s", s.name, resp.Status)
	}
	var f omflowtest.Filed
	if err := json.NewDecoder(resp.Body).Decode(&f); err != nil {
		return 0, err
	}
	return int(f.Filed), nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
