package worker

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

const queueLookEvery = 30 * time.Second

// queue is what this worker knows of WORK: how long a lease is, and whether the stream is still the one that its deliveries
// came from. A Booster that lost its store, or its last second in a power cut, gives the same sequence numbers to other steps;
// an ack, a nak or a renewal that was meant for the old one would hit a stranger.
type queue struct {
	nc    *nats.Conn
	js    jetstream.JetStream
	log   zerolog.Logger
	lease atomic.Int64 // AckWait of the consumer

	mu       sync.Mutex
	created  time.Time     // of the stream
	lost     chan struct{} // closed when the stream turns out to be another one
	checked  uint64        // reconnects of the connection when it was last looked at
	greatest uint64        // highest sequence that was delivered here
}

// openQueue looks at the stream and its consumer for the first time.
func openQueue(ctx context.Context, nc *nats.Conn, js jetstream.JetStream, log zerolog.Logger) (*queue, error) {
	q := &queue{nc: nc, js: js, log: log, lost: make(chan struct{})}
	return q, q.look(ctx)
}

// run looks again after each reconnect, and now and then, until ctx ends.
func (q *queue) run(ctx context.Context) {
	tick := time.NewTicker(queueLookEvery / 150)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if q.sure() && time.Since(last) < queueLookEvery {
			continue
		}
		if err := q.look(ctx); err != nil {
			q.log.Debug().Err(err).Msg("queue not looked at")
			continue
		}
		last = time.Now()
	}
}

// look reads stream and consumer, and declares the deliveries of another stream lost.
func (q *queue) look(ctx context.Context) error {
	reconnects, greatest := q.reconnects(), q.newest() // before: what is delivered meanwhile may be newer than the answer
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	stream, err := q.js.Stream(ctx, bus.StreamWork)
	if err != nil {
		return fmt.Errorf("look at %s: %w", bus.StreamWork, err)
	}
	consumer, err := stream.Consumer(ctx, bus.ConsumerWorkers)
	if err != nil {
		return fmt.Errorf("look at consumer %s of %s: %w", bus.ConsumerWorkers, bus.StreamWork, err)
	}
	lease := consumer.CachedInfo().Config.AckWait
	if old := time.Duration(q.lease.Swap(int64(lease))); old != 0 && old != lease {
		q.log.Info().Dur("from", old).Dur("lease", lease).Msg("lease of steps changed")
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	info := stream.CachedInfo()
	if !q.created.IsZero() && (!info.Created.Equal(q.created) || info.State.LastSeq < greatest) {
		q.log.Warn().Msg("the Booster has another queue than before: running steps are left to their next delivery")
		close(q.lost)
		q.lost, q.greatest = make(chan struct{}), 0
	}
	q.created, q.checked = info.Created, reconnects
	return nil
}

func (q *queue) reconnects() uint64 { return q.nc.Stats().Reconnects }

// newest is the highest sequence that was delivered here.
func (q *queue) newest() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.greatest
}

// sure tells whether nothing has happened to the connection since the queue was looked at.
func (q *queue) sure() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.checked == q.reconnects()
}

// delivered notes a delivery and returns what is closed when its stream is lost.
func (q *queue) delivered(seq uint64) (lost <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.greatest = max(q.greatest, seq)
	return q.lost
}

// leaseTime is how long a delivery belongs to its worker.
func (q *queue) leaseTime() time.Duration { return time.Duration(q.lease.Load()) }
