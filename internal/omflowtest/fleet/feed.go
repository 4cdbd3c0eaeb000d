package fleet

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Pace is how fast people file tickets at one server.
type Pace struct {
	Every   time.Duration                  // between two tickets
	Crowded time.Duration                  // the same while Much says so
	Much    func(ctx context.Context) bool // much is waiting
}

// Feed files one ticket after the other at every server, on and on, whatever happens behind the servers.
type Feed struct {
	end  context.CancelFunc
	over sync.WaitGroup

	mu    sync.Mutex
	tally FeedTally
}

// FeedTally is what a Feed has done so far.
type FeedTally struct {
	Filed  int   // tickets that a server has confirmed
	Failed int   // requests without an answer: their ticket may be filed or not
	Cause  error // of the last one of these
}

// StartFeed starts a feed, which ends with ctx or with Stop.
func StartFeed(ctx context.Context, client *http.Client, servers []Server, pace Pace) *Feed {
	ctx, end := context.WithCancel(ctx)
	f := &Feed{end: end}
	for _, s := range servers {
		f.over.Go(func() { f.fileAt(ctx, client, s, pace) })
	}
	return f
}

// Stop ends the feed, and returns when the last request is answered.
func (f *Feed) Stop() {
	f.end()
	f.over.Wait()
}

// Tally is what the feed has done so far.
func (f *Feed) Tally() FeedTally {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tally
}

func (f *Feed) fileAt(ctx context.Context, client *http.Client, s Server, pace Pace) {
	tick := time.NewTicker(pace.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n, err := s.File(context.WithoutCancel(ctx), client, 1) // a request under way is waited for
		f.note(n, err)
		next := pace.Every
		if pace.Much(ctx) {
			next = pace.Crowded
		}
		tick.Reset(next)
	}
}

func (f *Feed) note(n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tally.Filed += n
	if err != nil {
		f.tally.Failed, f.tally.Cause = f.tally.Failed+1, err
	}
}

// Check says whether as many tickets are in the database as servers have confirmed; a request without an answer may
// have filed one. None at all is wrong, too.
func (t FeedTally) Check(tickets int) error {
	if tickets < max(1, t.Filed) || tickets > t.Filed+t.Failed {
		return fmt.Errorf("%d tickets are in the database; servers have confirmed %d and left %d requests unanswered", tickets, t.Filed, t.Failed)
	}
	return nil
}
