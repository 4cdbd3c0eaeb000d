package main

import (
	"context"
	"net/http"
	"time"

	"github.com/omflow-booster/omflow-booster/internal/omflowtest"
	"github.com/omflow-booster/omflow-booster/internal/omflowtest/fleet"
)

const (
	batch       = 5   // tickets in one request
	openTickets = 200 // filed and not closed at the same time
	feedPause   = 20 * time.Millisecond
	filePace    = 300 * time.Millisecond // between two tickets at one server of a steady feed
	crowdedPace = 3 * time.Second        // the same while much is open
	feedAnswer  = 30 * time.Second       // a server that waits 2 s for its worker at each ticket of a batch still answers
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
		n, err := s.web.File(ctx, client, min(batch, tickets-filed))
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

// steadyFeed files tickets at every server at the same pace all the time, and more slowly while much is open.
func steadyFeed(ctx context.Context, client *http.Client, in *installation, db *database) *fleet.Feed {
	return fleet.StartFeed(ctx, client, in.webs(), fleet.Pace{
		Every: filePace, Crowded: crowdedPace,
		Much: func(ctx context.Context) bool {
			c, err := omflowtest.CountProgress(ctx, db.DB)
			return err != nil || c.Accepted-c.Effects > openTickets
		},
	})
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
