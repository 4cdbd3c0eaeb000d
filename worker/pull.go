package worker

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// How a pull notices that its consumer has moved to another Booster: from measurements of takeovers.
const (
	pullExpiry    = 5 * time.Second
	pullHeartbeat = time.Second
	pullRetry     = 250 * time.Millisecond
	requestMax    = 48          // steps in one request: of the largest size they still fit into what the server holds for one client
	staleSlack    = time.Second // a message that arrives later than its request allows was held up on the way
)

// puller fetches steps, never more than there are free slots, and hands each to deliver in its own goroutine.
type puller struct {
	consumer jetstream.Consumer
	slots    chan struct{}        // a token for each free slot
	lease    func() time.Duration // of a step: a setting that may change
	deliver  func(msg jetstream.Msg, asked time.Time)
	release  func(jetstream.Msg)
	usable   func(ctx context.Context) bool // waits until steps can be run at all; false when ctx ends
	running  *atomic.Int64                  // steps that were delivered and are not over
	log      zerolog.Logger
}

func newPuller(consumer jetstream.Consumer, slots int, lease func() time.Duration) *puller {
	p := &puller{consumer: consumer, slots: make(chan struct{}, slots), lease: lease}
	for range slots {
		p.slots <- struct{}{}
	}
	return p
}

// run pulls until ctx ends and returns when the last request is over. Steps that were delivered by then go on; see idle.
func (p *puller) run(ctx context.Context) {
	requests := make(chan struct{}, cap(p.slots)) // one for each request under way
	defer func() {
		for range cap(p.slots) {
			requests <- struct{}{} // all over
		}
	}()
	for p.usable(ctx) {
		free := p.take(ctx)
		if free == 0 {
			return
		}
		requests <- struct{}{}
		go func() {
			defer func() { <-requests }()
			p.request(ctx, free)
		}()
	}
}

// take waits for a free slot and takes all that are free. It returns 0 when ctx ends.
func (p *puller) take(ctx context.Context) int {
	select {
	case <-ctx.Done():
		return 0
	case <-p.slots:
	}
	for free := 1; free < requestMax; free++ {
		select {
		case <-p.slots:
		default:
			return free
		}
	}
	return requestMax
}

func (p *puller) put(slots int) {
	for range slots {
		p.slots <- struct{}{}
	}
}

// idle waits until every slot is free, or ctx ends, and tells which.
func (p *puller) idle(ctx context.Context) bool {
	for taken := range cap(p.slots) {
		select {
		case <-p.slots:
		case <-ctx.Done():
			p.put(taken)
			return false
		}
	}
	p.put(cap(p.slots))
	return true
}

// request fetches up to free steps. Slots that got none are free again at its end. It stays open for a third of the lease at
// most: the lease of a step counts from the request.
func (p *puller) request(ctx context.Context, free int) {
	began, expiry := time.Now(), min(pullExpiry, p.lease()/3)
	bounded, cancel := context.WithTimeout(ctx, expiry)
	defer cancel()
	opts := []jetstream.FetchOpt{jetstream.FetchContext(bounded)}
	if expiry > 2*pullHeartbeat {
		opts = append(opts, jetstream.FetchHeartbeat(pullHeartbeat))
	}
	batch, err := p.consumer.Fetch(free, opts...)
	if err == nil {
		for msg := range batch.Messages() {
			free--
			p.start(ctx, msg, began, expiry)
		}
		err = batch.Error()
	}
	if err != nil && ctx.Err() == nil {
		p.log.Debug().Err(err).Msg("no steps: request ended")
		if time.Since(began) < pullRetry {
			bus.Sleep(ctx, pullRetry) // refused at once: do not ask in a tight loop
		}
	}
	p.put(free)
}

// start runs one step in the slot that its request has taken.
func (p *puller) start(ctx context.Context, msg jetstream.Msg, began time.Time, expiry time.Duration) {
	if held := time.Now().Round(0).Sub(began.Round(0)); held > expiry+min(staleSlack, expiry) {
		// This process, or the network, stood still: the lease may be over and the step with another worker.
		p.log.Warn().Str("subject", msg.Subject()).Dur("held_up", held).Msg("step arrived too late; left to its next delivery")
		p.put(1)
		return
	}
	go func() {
		defer p.put(1)
		p.running.Add(1)
		defer p.running.Add(-1)
		if ctx.Err() != nil {
			p.release(msg)
			return
		}
		p.deliver(msg, began)
	}()
}
