package fleet

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

const glance = 10 * time.Millisecond // between two questions to a server

// Outages watches which servers are without service when.
type Outages struct {
	end  context.CancelFunc
	over sync.WaitGroup

	mu   sync.Mutex
	away map[string][]Span // by server
}

// WatchOutages asks every server every few milliseconds, until ctx ends or Stop.
func WatchOutages(ctx context.Context, client *http.Client, servers []Server) *Outages {
	ctx, end := context.WithCancel(ctx)
	o := &Outages{end: end, away: map[string][]Span{}}
	for _, s := range servers {
		o.over.Go(func() { o.watch(ctx, client, s) })
	}
	return o
}

func (o *Outages) watch(ctx context.Context, client *http.Client, s Server) {
	tick := time.NewTicker(glance)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		asked := time.Now()
		_, err := s.Version(context.WithoutCancel(ctx), client)
		o.mu.Lock()
		o.away[s.Name] = Extend(o.away[s.Name], asked, time.Now(), err != nil)
		o.mu.Unlock()
	}
}

// Stop ends the watch.
func (o *Outages) Stop() {
	o.end()
	o.over.Wait()
}

// Away is when each server was without service.
func (o *Outages) Away() map[string][]Span {
	o.mu.Lock()
	defer o.mu.Unlock()
	away := map[string][]Span{}
	for name, spans := range o.away {
		away[name] = slices.Clone(spans)
	}
	return away
}

// Since is for how long a server has been away since some moment.
func (o *Outages) Since(name string, moment time.Time) (d time.Duration) {
	for _, s := range o.Away()[name] {
		if s.From.After(moment) {
			d += s.Until.Sub(s.From)
		}
	}
	return d
}

// Most is how many servers were away at the same time at most.
func (o *Outages) Most() (most int) {
	all := slices.Concat(slices.Collect(maps.Values(o.Away()))...)
	for _, s := range all { // more can only become away when one more does
		at := slices.DeleteFunc(slices.Clone(all), func(x Span) bool { return x.From.After(s.From) || x.Until.Before(s.From) })
		most = max(most, len(at))
	}
	return most
}
