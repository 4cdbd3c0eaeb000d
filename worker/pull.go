package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// How a pull notices that its consumer has moved to another Booster: from measurements of takeovers.
const (
	pullExpiry    = 5 * time.Second
	pullHeartbeat = time.Second
	pullRetry     = 250 * time.Millisecond
	requestsMax   = 8           // requests under way
	requestBytes  = 32 << 20    // of the steps of one request
	staleSlack    = time.Second // a message that arrives later than its request allows was held up on the way
	arrivalsMax   = 2 * (maxSlots + aheadMax)
	intakeMax     = 200 // steps whose rows are looked at together
)

// States of a pull request, as NATS defines them.
const (
	noResponders = "503"
	heartbeat    = "100"
)

// puller asks the Booster for steps and puts them onto the shelf, as many as the slots finish soon; see shelf.
//
// All requests share one channel, and each has an inbox of its own, which tells when a step was asked for: its lease counts from there.
// An inbox serves one request after the other, so that a request costs one message and no subscription. A request with a limit in bytes
// always ends with a status, "Batch Completed" after the last step: before that its inbox is not free, or the status would end the
// next request.
type puller struct {
	nc     *nats.Conn
	shelf  *shelf
	lease  func() time.Duration                                   // of a step: a setting that may change
	open   func(msg *nats.Msg, asked time.Time) (*delivery, bool) // false: it cannot be read
	check  func(ctx context.Context, steps []*delivery)           // looks at the rows of many steps together
	usable func() bool                                            // steps can be run at all
	log    zerolog.Logger

	arrived    chan *nats.Msg
	freed      chan struct{} // a slot is free
	requests   map[*nats.Subscription]*request
	reconnects uint64
	paused     time.Time // until then nothing is asked for
}

// request is one that is under way, or an inbox that waits for the next one.
type request struct {
	sub    *nats.Subscription
	asked  time.Time
	heard  time.Time
	expiry time.Duration
	steps  int  // asked for
	left   int  // of these, steps that may still come
	open   bool // its last status has not come
}

func newPuller(nc *nats.Conn, slots int, lease func() time.Duration) *puller {
	return &puller{
		nc: nc, shelf: newShelf(slots), lease: lease, arrived: make(chan *nats.Msg, arrivalsMax), freed: make(chan struct{}, 1),
		requests: map[*nats.Subscription]*request{},
	}
}

// serve runs the slots until the shelf is closed.
func (p *puller) serve(handle func(*delivery)) {
	var slots sync.WaitGroup
	defer slots.Wait()
	for range p.shelf.slots {
		slots.Go(func() {
			for d := p.shelf.next(); d != nil; d = p.shelf.next() {
				began := time.Now()
				handle(d)
				p.shelf.done(time.Since(began))
				select {
				case p.freed <- struct{}{}:
				default:
				}
			}
		})
	}
}

// run pulls until ctx ends, and then releases what was not begun.
func (p *puller) run(ctx context.Context) {
	defer p.end()
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	p.reconnects = p.nc.Stats().Reconnects
	for {
		p.ask()
		select {
		case <-ctx.Done():
			return
		case msg := <-p.arrived:
			p.take(ctx, msg)
		case <-p.freed:
		case <-tick.C:
			p.tend()
		}
	}
}

// ask opens a request if there is room: at once if none is open, else when a quarter of all would fit.
func (p *puller) ask() {
	lease := p.lease()
	p.shelf.mu.Lock()
	p.shelf.window = min(paceWindow, lease/8)
	p.shelf.mu.Unlock()
	target, here := p.shelf.wanted()
	coming, under := 0, 0
	for _, r := range p.requests {
		if r.left > 0 {
			coming += r.left
			under++
		}
	}
	room := target - here - coming
	if room < 1 || (under > 0 && room < target/4) || under == requestsMax || time.Now().Before(p.paused) || !p.usable() ||
		bus.Away(p.nc) != nil {
		return
	}
	if err := p.request(room, min(pullExpiry, lease/3)); err != nil {
		p.log.Debug().Err(err).Msg("no steps asked for")
		p.paused = time.Now().Add(pullRetry)
	}
}

// request asks for steps. It stays open for a third of the lease at most: the lease of a step counts from the request.
func (p *puller) request(steps int, expiry time.Duration) error {
	r, err := p.free()
	if err != nil {
		return err
	}
	pull := map[string]any{"batch": steps, "expires": expiry, "max_bytes": requestBytes}
	if expiry > 2*pullHeartbeat {
		pull["idle_heartbeat"] = pullHeartbeat
	}
	body, err := json.Marshal(pull)
	if err != nil {
		return err
	}
	r.asked = time.Now()
	r.heard, r.expiry, r.steps, r.left, r.open = r.asked, expiry, steps, steps, true
	if err := p.nc.PublishRequest(bus.SubjectPull, r.sub.Subject, body); err != nil {
		r.left, r.open = 0, false
		return fmt.Errorf("ask for steps: %w", err)
	}
	return nil
}

// free returns an inbox that no request uses.
func (p *puller) free() (*request, error) {
	for _, r := range p.requests {
		if !r.open {
			return r, nil
		}
	}
	sub, err := p.nc.ChanSubscribe(p.nc.NewInbox(), p.arrived)
	if err != nil {
		return nil, fmt.Errorf("listen for steps: %w", err)
	}
	r := &request{sub: sub}
	p.requests[sub] = r
	return r, nil
}

// take puts what has arrived onto the shelf.
func (p *puller) take(ctx context.Context, first *nats.Msg) {
	steps := make([]*delivery, 0, 1)
	for msg := first; msg != nil; {
		if d := p.read(msg); d != nil {
			steps = append(steps, d)
		}
		msg = nil
		if len(steps) < intakeMax {
			select {
			case msg = <-p.arrived:
			default:
			}
		}
	}
	if len(steps) == 0 {
		return
	}
	p.check(ctx, steps)
	p.shelf.put(steps)
}

// read is the step of a message, if it is one and in time.
func (p *puller) read(msg *nats.Msg) *delivery {
	r := p.requests[msg.Sub]
	if r == nil {
		return nil // of a request that was given up: its next delivery is in time
	}
	r.heard = time.Now()
	if status := msg.Header.Get("Status"); status != "" && len(msg.Data) == 0 {
		if status != heartbeat {
			if r.left == r.steps && r.heard.Sub(r.asked) < pullRetry {
				p.paused = r.heard.Add(pullRetry) // refused at once: do not ask in a tight loop
			}
			r.left, r.open = 0, false
			p.log.Debug().Str("status", status).Str("why", msg.Header.Get("Description")).Msg("request for steps ended")
		}
		return nil
	}
	r.left = max(0, r.left-1)
	if held := time.Now().Round(0).Sub(r.asked.Round(0)); held > r.expiry+min(staleSlack, r.expiry) {
		// This process, or the network, stood still: the lease may be over and the step with another worker.
		p.log.Warn().Str("subject", msg.Subject).Dur("held_up", held).Msg("step arrived too late; left to its next delivery")
		return nil
	}
	d, ok := p.open(msg, r.asked)
	if !ok {
		return nil
	}
	return d
}

// tend gives up requests that nobody answers any more, and steps that have waited here for too long.
func (p *puller) tend() {
	now, reconnects := time.Now(), p.nc.Stats().Reconnects
	for sub, r := range p.requests {
		silent := r.expiry > 2*pullHeartbeat && now.Sub(r.heard) > 2*pullHeartbeat+pullHeartbeat/2
		if r.open && (silent || reconnects != p.reconnects || now.Sub(r.asked) > r.expiry+min(staleSlack, r.expiry)) {
			p.log.Debug().Msg("request for steps is not answered")
			delete(p.requests, sub)
			_ = sub.Unsubscribe()
		}
	}
	p.reconnects = reconnects
	for _, d := range p.shelf.overdue() {
		d.log.Debug().Msg("step waited too long for a slot; given back")
		d.release(0)
	}
}

// end ends the requests and releases the steps that were not begun, those included that are on their way.
func (p *puller) end() {
	for sub := range p.requests {
		_ = sub.Drain() // the Booster sends nothing more, and what it has sent still arrives
	}
	if err := p.nc.FlushTimeout(time.Second); err != nil {
		p.log.Debug().Err(err).Msg("steps on their way come again when their leases end")
	}
	unbegun := p.shelf.clear()
	for len(p.arrived) > 0 {
		if d := p.read(<-p.arrived); d != nil {
			unbegun = append(unbegun, d)
		}
	}
	clear(p.requests)
	for _, d := range unbegun {
		d.release(0)
	}
}
