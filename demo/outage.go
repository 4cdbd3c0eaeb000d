package main

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"time"
)

const outageGlance = 10 * time.Millisecond // between two questions to a server

// outages watches which servers are without service when.
type outages struct {
	end  context.CancelFunc
	over sync.WaitGroup

	mu   sync.Mutex
	away map[string][]span // by server
}

// span is a time without service, from the first answer that was none to the last question without one: never longer than it was.
type span struct {
	from, until time.Time
	open        bool // so was the last answer
}

// watchOutages asks every server every few milliseconds.
func watchOutages(ctx context.Context, servers []*server) *outages {
	ctx, end := context.WithCancel(ctx)
	o := &outages{end: end, away: map[string][]span{}}
	for _, s := range servers {
		o.over.Go(func() { o.watch(ctx, s) })
	}
	return o
}

func (o *outages) watch(ctx context.Context, s *server) {
	client := &http.Client{Timeout: lookLimit}
	defer client.CloseIdleConnections()
	for pause(ctx, outageGlance) == nil {
		asked := time.Now()
		_, err := versionBy(context.WithoutCancel(ctx), client, s)
		o.mu.Lock()
		o.away[s.name] = extend(o.away[s.name], asked, time.Now(), err != nil)
		o.mu.Unlock()
	}
}

func extend(spans []span, asked, answered time.Time, away bool) []span {
	last := len(spans) - 1
	switch {
	case away && last >= 0 && spans[last].open:
		spans[last].until = asked
	case away:
		spans = append(spans, span{answered, answered, true})
	case last >= 0:
		spans[last].open = false
	}
	return spans
}

// stop ends the watch.
func (o *outages) stop() {
	o.end()
	o.over.Wait()
}

// since is for how long a server has been away since some moment.
func (o *outages) since(name string, moment time.Time) (d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.away[name] {
		if s.from.After(moment) {
			d += s.until.Sub(s.from)
		}
	}
	return d
}

// most is how many servers were away at the same time at most.
func (o *outages) most() (most int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []span
	for _, spans := range o.away {
		all = append(all, spans...)
	}
	for _, s := range all { // more can only become away when one more does
		at := slices.DeleteFunc(slices.Clone(all), func(x span) bool { return x.from.After(s.from) || x.until.Before(s.from) })
		most = max(most, len(at))
	}
	return most
}
